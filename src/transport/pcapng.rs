//! A decorator that copies every sealed message of a path into a pcapng file (draft-ietf-opsawg-
//! pcapng), link type USER0, so that Wireshark shows sizes and times. The messages stay sealed; the
//! file holds no key.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::warn;

use super::capture::Direction;
use super::{Framed, LocalFuture, MessageReader, MessageWriter, Path, Sent, TransportError};

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1A2B_3C4D;
const LINKTYPE_USER0: u16 = 147;
const EPB_FLAGS: u16 = 2;

/// A file being written; clones share it, so that several paths can go into one file.
#[derive(Clone)]
pub struct Recorder(Rc<RefCell<Option<Box<dyn Write>>>>);

impl Recorder {
    /// Starts a file.
    ///
    /// # Errors
    /// What the sink says.
    pub fn new(mut out: Box<dyn Write>) -> io::Result<Self> {
        let mut header = Vec::new();
        header.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        header.extend(1u16.to_le_bytes());
        header.extend(0u16.to_le_bytes());
        header.extend(u64::MAX.to_le_bytes());
        out.write_all(&block(SECTION_HEADER, &header))?;
        let mut interface = Vec::new();
        interface.extend(LINKTYPE_USER0.to_le_bytes());
        interface.extend(0u16.to_le_bytes());
        interface.extend(0u32.to_le_bytes());
        out.write_all(&block(INTERFACE, &interface))?;
        Ok(Self(Rc::new(RefCell::new(Some(out)))))
    }

    /// Copies what goes over `path` into the file. A file that cannot be written ends the
    /// recording, not the path.
    pub fn tee(&self, path: Path) -> Path {
        Path {
            reader: Box::new(Reader {
                inner: path.reader,
                recorder: self.clone(),
            }),
            writer: Box::new(Writer {
                inner: path.writer,
                recorder: self.clone(),
            }),
            control: path.control,
        }
    }

    fn record(&self, direction: Direction, message: &[u8]) {
        let mut out = self.0.borrow_mut();
        let Some(sink) = out.as_mut() else {
            return;
        };
        let micros = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0));
        let packet = packet(direction, micros, message);
        if let Err(error) = sink.write_all(&packet).and_then(|()| sink.flush()) {
            warn!(%error, "the recording of messages ends");
            *out = None;
        }
    }
}

fn packet(direction: Direction, micros: u64, message: &[u8]) -> Vec<u8> {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = micros.to_le_bytes();
    let length = u32::try_from(message.len())
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    let mut body = Vec::with_capacity(message.len() + 40);
    body.extend(0u32.to_le_bytes());
    body.extend([t4, t5, t6, t7, t0, t1, t2, t3]);
    body.extend(length);
    body.extend(length);
    body.extend_from_slice(message);
    pad(&mut body);
    let flags: u32 = match direction {
        Direction::In => 1,
        Direction::Out => 2,
    };
    body.extend(EPB_FLAGS.to_le_bytes());
    body.extend(4u16.to_le_bytes());
    body.extend(flags.to_le_bytes());
    body.extend(0u32.to_le_bytes());
    block(ENHANCED_PACKET, &body)
}

/// A block: type, total length, body, total length again.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let total = u32::try_from(body.len() + 12)
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    let mut block = Vec::with_capacity(body.len() + 12);
    block.extend(kind.to_le_bytes());
    block.extend(total);
    block.extend_from_slice(body);
    block.extend(total);
    block
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

struct Reader {
    inner: Box<dyn MessageReader>,
    recorder: Recorder,
}

impl MessageReader for Reader {
    fn recv(&mut self) -> LocalFuture<'_, Result<Option<Vec<u8>>, TransportError>> {
        Box::pin(async move {
            let received = self.inner.recv().await;
            if let Ok(Some(message)) = &received {
                self.recorder.record(Direction::In, message);
            }
            received
        })
    }
}

struct Writer {
    inner: Box<dyn MessageWriter>,
    recorder: Recorder,
}

impl MessageWriter for Writer {
    fn send(&mut self, framed: Framed) -> LocalFuture<'_, Sent> {
        self.recorder.record(Direction::Out, framed.message());
        self.inner.send(framed)
    }

    fn close(&mut self) -> LocalFuture<'_, Result<(), TransportError>> {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_a_multiple_of_four_and_ends_with_its_length() {
        for length in 0..9 {
            let packet = packet(Direction::Out, 1, &vec![7; length]);
            assert_eq!(packet.len() % 4, 0);
            let total = u32::try_from(packet.len()).unwrap().to_le_bytes();
            assert_eq!(packet.get(4..8), Some(&total[..]));
            assert_eq!(packet.last_chunk(), Some(&total));
        }
    }

    #[test]
    fn a_packet_is_that_of_the_format_description() {
        let expected = [
            &[6, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0][..],
            &[2, 0, 0, 0, 1, 0, 0, 0],
            &[3, 0, 0, 0, 3, 0, 0, 0, b'a', b'b', b'c', 0],
            &[2, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            &[48, 0, 0, 0],
        ]
        .concat();
        assert_eq!(packet(Direction::In, (2 << 32) | 1, b"abc"), expected);
    }

    #[test]
    fn a_full_disk_ends_the_recording() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let recorder = Recorder::new(Box::new(Full(3))).unwrap();
        recorder.record(Direction::In, b"fits");
        assert!(recorder.0.borrow().is_some());
        recorder.record(Direction::In, b"does not");
        assert!(recorder.0.borrow().is_none());
    }
}
