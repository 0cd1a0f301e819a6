//! What runs on a host: makes what is desired of it real, and reports what it sees.
