//! Our end of the socket that the kernel holds the other end of.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::endpoints::Endpoints;
use super::request::{Arriving, Incoming};
use crate::kernel::usbip_pdu::{Command, HEADER, PduError, Return, Unlink};

/// Bytes read ahead: small enough that little data is copied out of it, large enough for a burst of
/// headers.
const AHEAD: usize = HEADER * 32;
/// Largest step in which a buffer grows before its bytes are there.
const STEP: usize = 1 << 20;
/// Bytes that are passed over at once.
const SKIP: usize = 64 << 10;
/// Messages that go out in one call.
pub(super) const GATHER: usize = 32;

/// The reading side. Buffers are handed over, so that a ring can own them while it reads.
pub(super) trait Source {
    /// Appends between 1 and `limit` bytes, or none at the end of the stream.
    fn read(
        &mut self,
        buffer: Vec<u8>,
        limit: usize,
    ) -> impl Future<Output = (io::Result<usize>, Vec<u8>)>;
}

/// The writing side.
pub(super) trait Sink {
    /// Writes all messages and hands the vector back empty.
    fn write(&mut self, messages: Vec<Message>) -> impl Future<Output = io::Result<Vec<Message>>>;
}

/// A header and the data that goes with it, wherever in a buffer that stands, and isochronous
/// descriptors.
#[derive(Debug)]
pub(super) struct Message {
    header: [u8; HEADER],
    buffer: Vec<u8>,
    data: Range<usize>,
    descriptors: Vec<u8>,
}

impl Message {
    /// A message without data.
    pub(super) fn bare(ret: Return) -> Self {
        Self::with_data(ret, Vec::new(), 0..0)
    }

    /// A message followed by a part of `buffer`; nothing when that part does not exist.
    pub(super) fn with_data(ret: Return, buffer: Vec<u8>, data: Range<usize>) -> Self {
        Self {
            header: ret.to_bytes(),
            buffer,
            data,
            descriptors: Vec::new(),
        }
    }

    /// The same with isochronous descriptors at its end.
    pub(super) fn with_descriptors(self, descriptors: Vec<u8>) -> Self {
        Self {
            descriptors,
            ..self
        }
    }

    /// Whether this ends that URB, well.
    pub(super) fn ends_well(&self, seqnum: u32) -> bool {
        let Ok(Return::Submit(ret)) = Return::parse(&self.header) else {
            return false;
        };
        ret.seqnum == seqnum && ret.status == 0
    }

    fn data(&self) -> &[u8] {
        self.buffer.get(self.data.clone()).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> (Return, &[u8], &[u8]) {
        let ret = Return::parse(&self.header).expect("an answer");
        (ret, self.data(), &self.descriptors)
    }
}

impl Source for OwnedReadHalf {
    async fn read(&mut self, mut buffer: Vec<u8>, limit: usize) -> (io::Result<usize>, Vec<u8>) {
        buffer.reserve(limit);
        let wanted = u64::try_from(limit).unwrap_or(u64::MAX);
        let result = self.take(wanted).read_buf(&mut buffer).await;
        (result, buffer)
    }
}

impl Sink for OwnedWriteHalf {
    async fn write(&mut self, mut messages: Vec<Message>) -> io::Result<Vec<Message>> {
        for group in messages.chunks(GATHER) {
            let mut parts = [IoSlice::new(&[]); GATHER * 3];
            let slices = group
                .iter()
                .flat_map(|message| [&message.header, message.data(), &message.descriptors]);
            for (part, slice) in parts.iter_mut().zip(slices) {
                *part = IoSlice::new(slice);
            }
            let mut left = parts.as_mut_slice();
            // Advancing by nothing drops the empty slices at the front.
            IoSlice::advance_slices(&mut left, 0);
            while !left.is_empty() {
                match self.write_vectored(left).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    written => IoSlice::advance_slices(&mut left, written),
                }
            }
        }
        messages.clear();
        Ok(messages)
    }
}

/// What the kernel sent.
#[derive(Debug)]
pub(super) enum FromKernel {
    Submit(Incoming),
    Unlink(Unlink),
}

impl FromKernel {
    /// The number that the kernel gave this message.
    pub(super) const fn seqnum(&self) -> u32 {
        match self {
            Self::Submit(incoming) => incoming.submit.seqnum,
            Self::Unlink(unlink) => unlink.seqnum,
        }
    }
}

/// Why the kernel's messages cannot be followed any further.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the kernel sent no USB/IP message")]
    Pdu(#[from] PduError),
    #[error("the socket to the kernel failed")]
    Io(#[from] io::Error),
}

/// Reads messages. A call must be awaited to its end, or bytes are lost.
pub(super) struct Reader<S> {
    source: S,
    endpoints: Rc<RefCell<Endpoints>>,
    ahead: Vec<u8>,
    used: usize,
}

impl<S: Source> Reader<S> {
    pub(super) fn new(source: S, endpoints: Rc<RefCell<Endpoints>>) -> Self {
        Self {
            source,
            endpoints,
            ahead: Vec::with_capacity(AHEAD),
            used: 0,
        }
    }

    /// The next message with its data; `None` when the stream ended between two messages.
    pub(super) async fn next(&mut self) -> Result<Option<FromKernel>, ReadError> {
        let Some(header) = self.header().await? else {
            return Ok(None);
        };
        let submit = match Command::parse(&header)? {
            Command::Submit(submit) => submit,
            Command::Unlink(unlink) => return Ok(Some(FromKernel::Unlink(unlink))),
        };
        let mut urb = Arriving::begin(submit, &self.endpoints.borrow());
        let data = usize::try_from(submit.data_len()).unwrap_or(usize::MAX);
        if urb.wants_data() {
            urb.buffer = self.body(urb.buffer, data).await?;
        } else {
            self.skip(data).await?;
        }
        if urb.wants_packets() {
            urb.descriptors = self.body(urb.descriptors, submit.iso_len()).await?;
        } else {
            self.skip(submit.iso_len()).await?;
        }
        Ok(Some(FromKernel::Submit(urb.finish())))
    }

    async fn header(&mut self) -> Result<Option<[u8; HEADER]>, io::Error> {
        loop {
            let unread = self.ahead.get(self.used..).unwrap_or_default();
            if let Some(header) = unread.first_chunk() {
                self.used += HEADER;
                return Ok(Some(*header));
            }
            self.ahead.drain(..self.used);
            self.used = 0;
            let room = AHEAD - self.ahead.len();
            let ahead = std::mem::take(&mut self.ahead);
            let (result, ahead) = self.source.read(ahead, room).await;
            self.ahead = ahead;
            match (result?, self.ahead.is_empty()) {
                (0, true) => return Ok(None),
                (0, false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                (1.., _) => {}
            }
        }
    }

    /// Passes over `length` bytes.
    async fn skip(&mut self, mut length: usize) -> Result<(), io::Error> {
        let mut buffer = Vec::new();
        while length > 0 {
            let step = length.min(SKIP);
            buffer = self.body(buffer, step).await?;
            buffer.clear();
            length -= step;
        }
        Ok(())
    }

    /// Appends `length` bytes, first those read ahead.
    async fn body(&mut self, mut buffer: Vec<u8>, length: usize) -> Result<Vec<u8>, io::Error> {
        let unread = self.ahead.get(self.used..).unwrap_or_default();
        let ready = unread.get(..length).unwrap_or(unread);
        buffer.reserve(length.min(STEP));
        buffer.extend_from_slice(ready);
        self.used += ready.len();
        let mut missing = length - ready.len();
        while missing > 0 {
            let (result, filled) = self.source.read(buffer, missing.min(STEP)).await;
            buffer = filled;
            match result? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => missing = missing.saturating_sub(read),
            }
        }
        Ok(buffer)
    }
}
