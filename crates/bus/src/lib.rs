//! Documents between conductors and agents, and what carries them.
