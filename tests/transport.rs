//! One suite over every transport, then what only some of them can show.

#[cfg(test)]
#[path = "transport/faults.rs"]
mod faults;
#[cfg(test)]
#[path = "transport/suite.rs"]
mod suite;
#[cfg(test)]
#[path = "transport/tcp.rs"]
mod tcp;
