mod servers_store;
mod small_stores;
mod support;
