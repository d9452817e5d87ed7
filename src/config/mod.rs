//! The configuration file: parse, validate, explain.
