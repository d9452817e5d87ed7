//! Nouns: resources, pods, nodes, pod groups, the annotation contract.
