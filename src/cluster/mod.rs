//! What is believed about the cluster, as columns.
