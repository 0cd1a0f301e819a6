//! A typed client of OpenStack's public APIs, over HTTP or into a router of the same process.
