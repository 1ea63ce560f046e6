//! The interfaces of this kernel.

use core::task::{Context, Poll};
use std::io;

use nix::errno::Errno;

use super::{CanHost, CanPort, Settings};
use crate::kernel::can::{CanSocket, Filter, Frame, Kind, Link, Links, Options, Received};

/// The interfaces of this process' network namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelCan;

impl CanHost for KernelCan {
    fn list(&self) -> io::Result<Vec<Link>> {
        Links::open()?.list()
    }

    fn find(&self, name: &str) -> io::Result<Link> {
        Links::open()?.find(name)
    }

    fn create(&self, name: &str, kind: &Kind, mtu: u32) -> io::Result<()> {
        Links::open()?.create(name, kind, mtu)
    }

    fn delete(&self, index: u32) -> io::Result<()> {
        Links::open()?.delete(index)
    }

    fn set_alias(&self, index: u32, alias: &str) -> io::Result<()> {
        Links::open()?.set_alias(index, alias)
    }

    fn set_up(&self, index: u32, up: bool) -> io::Result<()> {
        Links::open()?.set_up(index, up)
    }

    fn configure(&self, index: u32, settings: &Settings) -> io::Result<()> {
        let Settings {
            timing,
            data,
            mask,
            modes,
        } = *settings;
        Links::open()?.configure(index, timing, data, mask, modes)
    }

    fn open(&self, index: u32, options: Options) -> io::Result<Box<dyn CanPort>> {
        Ok(Box::new(CanSocket::open(index, options)?))
    }
}

impl CanPort for CanSocket {
    fn set_filters(&self, filters: &[Filter]) -> io::Result<()> {
        self.set_filters(filters)
    }

    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        frames: &mut Vec<Received>,
    ) -> Poll<Result<(), Errno>> {
        self.poll_receive(context, frames)
    }

    fn poll_send(&self, context: &mut Context<'_>, frame: &Frame) -> Poll<Result<(), Errno>> {
        self.poll_send(context, frame)
    }
}
