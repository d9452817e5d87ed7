//! One file per plugin, under upstream's name where upstream has it.
