//! Composition root: builds the parts, connects them with bounded channels, shuts down in order.
