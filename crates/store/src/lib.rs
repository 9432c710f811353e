//! Ordered key-value engines for a node's view.
