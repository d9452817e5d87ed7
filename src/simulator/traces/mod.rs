//! Readers of public cluster traces, as Kubernetes objects.
