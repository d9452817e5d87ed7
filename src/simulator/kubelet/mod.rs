//! Fake kubelets: run bound pods on nodes that are only objects.
