//! What each queue deserves and holds: the tree, the ledger, decayed usage, and the order.
