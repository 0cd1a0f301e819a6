//! The drivers of this crate, held to the suites that every driver passes.

mod simulated;
