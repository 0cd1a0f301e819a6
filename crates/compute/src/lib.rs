//! Servers, flavors, keypairs, quotas: model, API and the map of cells.
