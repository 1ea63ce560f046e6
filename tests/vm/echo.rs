//! A character device that gives back what is written to it, and has ioctls of every shape.

use std::collections::{BTreeSet, VecDeque};
use std::io;

use myclerk::kernel::cuse::{Body, Config, Cuse, Ioctl, MAX_TRANSFER, Pause, Piece, Request};
use nix::errno::Errno;

use crate::say;

/// Writes `STATUS_BYTES` to the caller: how much is held, then zeros. More than a page.
const STATUS: u32 = 0x4501;
const STATUS_BYTES: u32 = 5000;
/// Reads `FILL_BYTES` of the caller's, as if they were written to the device.
const FILL: u32 = 0x4502;
const FILL_BYTES: u32 = 36;
/// Turns `REVERSE_BYTES` of the caller's round in place.
const REVERSE: u32 = 0x4503;
const REVERSE_BYTES: u32 = 16;
/// Turns pieces of the caller's memory round into others: the argument points to
/// `{ u64 segments; u32 count; u32 pad; }` and that to `{ u64 from; u64 to; u32 len; u32 pad; }`.
const GATHER: u32 = 0x4504;
const GATHER_BYTES: u32 = 16;
const SEGMENT_BYTES: u32 = 24;
/// Returns its argument, which is no pointer.
const NUMBER: u32 = 0x4505;

const POLLIN: u32 = libc::POLLIN.cast_unsigned() as u32;
const POLLOUT: u32 = libc::POLLOUT.cast_unsigned() as u32;

#[derive(Default)]
struct Echo {
    files: u64,
    held: VecDeque<u8>,
    /// Requests that wait for something to read, and how much each takes.
    readers: VecDeque<(u64, u32)>,
    /// Files whose pollers wait for the same.
    pollers: BTreeSet<u64>,
}

/// Serves `/dev/NAME` until the process is ended.
///
/// # Errors
/// There can be no such device, or the kernel ended it.
pub(crate) fn serve(name: &str) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let cuse = Cuse::create(&Config {
            name: name.to_owned(),
            max_read: MAX_TRANSFER,
            max_write: MAX_TRANSFER,
        })?;
        say("device ready");
        let mut echo = Echo::default();
        loop {
            let request = cuse.next().await?;
            echo.serve(&cuse, request)?;
        }
    })
}

impl Echo {
    fn serve(&mut self, cuse: &Cuse, request: Request) -> io::Result<()> {
        let id = request.id;
        match request.body {
            Body::Open { .. } => {
                self.files += 1;
                say(&format!("open by {} of {}", request.pid, request.uid));
                cuse.open(id, self.files)
            }
            Body::Release { fh } => {
                say(&format!("release {fh}"));
                Ok(())
            }
            Body::Read { nonblock: true, .. } if self.held.is_empty() => {
                cuse.error(id, Errno::EAGAIN)
            }
            Body::Read { size, .. } => {
                self.readers.push_back((id, size));
                if self.held.is_empty() {
                    say("a reader waits");
                }
                self.hand_out(cuse)
            }
            Body::Write { data, .. } => {
                let length = u32::try_from(data.len()).map_err(io::Error::other)?;
                self.held.extend(data);
                cuse.written(id, length)?;
                self.hand_out(cuse)
            }
            Body::Poll {
                kh,
                schedule_notify,
                ..
            } => {
                let readable = if self.held.is_empty() { 0 } else { POLLIN };
                cuse.poll(id, readable | POLLOUT)?;
                if schedule_notify {
                    self.pollers.insert(kh);
                    say("a poller waits");
                }
                Ok(())
            }
            Body::Interrupt { id } => {
                self.readers.retain(|(reader, _)| *reader != id);
                say("interrupted");
                cuse.error(id, Errno::EINTR)
            }
            Body::Ioctl(call) => match self.ioctl(&call) {
                Ok((result, output)) => {
                    cuse.ioctl(id, result, &output)?;
                    self.hand_out(cuse)
                }
                Err(pause) => cuse.pause(id, &pause),
            },
        }
    }

    fn hand_out(&mut self, cuse: &Cuse) -> io::Result<()> {
        while !self.held.is_empty()
            && let Some((id, size)) = self.readers.pop_front()
        {
            let size = usize::try_from(size).map_err(io::Error::other)?;
            let bytes: Vec<u8> = self.held.drain(..size.min(self.held.len())).collect();
            cuse.data(id, &bytes)?;
        }
        if !self.held.is_empty() {
            for kh in std::mem::take(&mut self.pollers) {
                cuse.notify_poll(kh)?;
            }
        }
        Ok(())
    }

    fn ioctl(&mut self, call: &Ioctl) -> Result<(i32, Vec<u8>), Pause> {
        match call.cmd {
            STATUS => {
                call.argument(0, STATUS_BYTES)?;
                let mut status = vec![0; STATUS_BYTES as usize];
                status[..8].copy_from_slice(&self.held.len().to_ne_bytes());
                Ok((0, status))
            }
            FILL => {
                self.held.extend(call.argument(FILL_BYTES, 0)?);
                Ok((0, vec![]))
            }
            REVERSE => {
                let bytes = call.argument(REVERSE_BYTES, REVERSE_BYTES)?;
                Ok((0, bytes.iter().rev().copied().collect()))
            }
            GATHER => gather(call),
            NUMBER => Ok((i32::try_from(call.arg).unwrap_or(-libc::EINVAL), vec![])),
            _ => Ok((-libc::ENOTTY, vec![])),
        }
    }
}

fn gather(call: &Ioctl) -> Result<(i32, Vec<u8>), Pause> {
    let mut rounds = call.rounds();
    let header = rounds.take(Piece::at(call.arg, GATHER_BYTES))?;
    let count = number_at(header, 8, 4);
    let length = u32::try_from(count).map_or(u32::MAX, |count| count.saturating_mul(SEGMENT_BYTES));
    let segments = rounds.take(Piece::at(number_at(header, 0, 8), length))?;
    let mut sources = vec![];
    for segment in segments.chunks(SEGMENT_BYTES as usize) {
        let length = u32::try_from(number_at(segment, 16, 4)).unwrap_or(u32::MAX);
        sources.push(Piece::at(number_at(segment, 0, 8), length));
        rounds.give(Piece::at(number_at(segment, 8, 8), length));
    }
    let data = rounds.take_all(&sources)?;
    rounds.complete()?;
    let turned = data
        .iter()
        .flat_map(|bytes| bytes.iter().rev().copied())
        .collect();
    Ok((i32::try_from(count).unwrap_or(i32::MAX), turned))
}

/// The number of `length` bytes at `offset`, least significant byte first.
fn number_at(bytes: &[u8], offset: usize, length: usize) -> u64 {
    let field = bytes.get(offset..offset + length).unwrap_or_default();
    field
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
