//! An embedded Kubernetes API server: JSON over HTTP, in memory.
