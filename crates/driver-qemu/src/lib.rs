//! Guests in QEMU processes that this crate starts and speaks to by QMP; no daemon between.
