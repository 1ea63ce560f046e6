//! One suite over every transport, then what only some of them can show.

#[path = "transport/faults.rs"]
mod faults;
#[path = "transport/suite.rs"]
mod suite;
#[path = "transport/tcp.rs"]
mod tcp;
