//! Compute's workflows and reconcilers.
