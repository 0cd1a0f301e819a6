//! Which host takes a server: filters, weighers, choice, explanation. Pure.
