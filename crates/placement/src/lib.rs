//! Providers, inventories and claims in a cell's database.
