//! Connects to a peer by name or address.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::path;
use crate::transport::{Path, TransportError};

/// Connects to `target`, which is `host:port`, `192.0.2.7:port` or `[2001:db8::7]:port`. Every
/// address of the name is tried in the resolver's order, each for at most `per_address`. Dropping
/// the future gives the attempt up.
///
/// # Errors
/// [`TransportError::Resolve`] when there is no address, [`TransportError::Unreachable`] with the
/// cause for each address when none answered.
pub async fn dial(target: &str, per_address: Duration) -> Result<Path, TransportError> {
    let addresses = resolve(target)
        .await
        .map_err(|source| TransportError::Resolve {
            target: target.to_owned(),
            source,
        })?;
    let mut attempts = Vec::new();
    for address in addresses {
        match connect(address, per_address).await {
            Ok(path) => return Ok(path),
            Err(error) => attempts.push((address, error)),
        }
    }
    Err(TransportError::Unreachable {
        target: target.to_owned(),
        attempts,
    })
}

async fn resolve(target: &str) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in tokio::net::lookup_host(target).await? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
    }
    Ok(addresses)
}

async fn connect(address: SocketAddr, limit: Duration) -> io::Result<Path> {
    let stream = timeout(limit, TcpStream::connect(address)).await??;
    path(stream, address)
}
