//! Extension points of the scheduling framework, in upstream's terms.
