//! A capture of the frames that a daemon sends and receives, when its administrator asks for one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use super::config::CaptureConfig;
use crate::link::connection::Tap;
use crate::transport::capture::{Direction, FrameLog, FrameRecord};
use crate::wire::flags::Tier;
use crate::wire::frame::{self, Body, Frame, RawFrame};
use crate::wire::limits::FRAMES_PER_RECORD;
use crate::wire::opcode::Opcode;
use crate::wire::time::Mono;

type Log = Rc<RefCell<Option<FrameLog<BufWriter<File>>>>>;

/// A capture file that the connections of a daemon share.
#[derive(Clone)]
pub(super) struct Capture(Log);

impl Capture {
    /// Starts the file that was asked for, readable by its owner alone.
    pub(super) fn open(config: Option<&CaptureConfig>) -> io::Result<Option<Self>> {
        let Some(config) = config else {
            return Ok(None);
        };
        let file = create(&config.file)?;
        let log = FrameLog::new(BufWriter::new(file), config.payloads);
        Ok(Some(Self(Rc::new(RefCell::new(Some(log))))))
    }

    /// The tap for one more connection.
    pub(super) fn tap(&self) -> Box<dyn Tap> {
        Box::new(FrameTap {
            log: Rc::clone(&self.0),
            requests: HashMap::new(),
        })
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

struct FrameTap {
    log: Log,
    /// What the requests that are not answered yet are, by who asked: answers do not say.
    requests: HashMap<(bool, u32), Opcode>,
}

impl std::fmt::Debug for FrameTap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrameTap")
    }
}

impl Tap for FrameTap {
    fn record(&mut self, now: Mono, outgoing: bool, tier: Tier, frames: &[u8]) {
        let direction = if outgoing {
            Direction::Out
        } else {
            Direction::In
        };
        // What cannot be read is the link's business, which sees the same bytes.
        for raw in frame::frames(frames, FRAMES_PER_RECORD.1).map_while(Result::ok) {
            let record = match raw {
                RawFrame::Whole(frame) => self.whole(outgoing, frame),
                RawFrame::Fragment { piece, .. } => ("fragment", None, 0, None, piece),
            };
            let (kind, opcode, stream, corr, payload) = record;
            let (stream, corr) = (u64::from(stream), corr.map(u64::from));
            let record = FrameRecord {
                at: now,
                direction,
                tier,
                kind,
                opcode,
                stream,
                corr,
                payload,
            };
            self.write(&record);
        }
    }
}

type Described<'a> = (&'static str, Option<Opcode>, u32, Option<u32>, &'a [u8]);

impl FrameTap {
    fn whole<'a>(&mut self, outgoing: bool, frame: Frame<'a>) -> Described<'a> {
        let (kind, opcode, corr) = match frame.head.body {
            Body::Data { .. } => ("data", None, None),
            Body::Request { opcode, corr } => {
                self.requests.insert((outgoing, corr), opcode);
                ("request", Some(opcode), Some(corr))
            }
            Body::Response { corr, more, .. } => {
                let asked = (!outgoing, corr);
                let opcode = self.requests.get(&asked).copied();
                if !more {
                    self.requests.remove(&asked);
                }
                ("response", opcode, Some(corr))
            }
            Body::Event { opcode } => ("event", Some(opcode), None),
            Body::Credit { .. } => ("credit", None, None),
            Body::Cancel { corr } => ("cancel", None, Some(corr)),
            Body::Reset { .. } => ("reset", None, None),
            Body::Pad => ("pad", None, None),
            Body::Ignored { .. } => ("ignored", None, None),
        };
        (kind, opcode, frame.head.stream, corr, frame.payload)
    }

    /// A capture that cannot be written ends, and nothing else does.
    fn write(&self, record: &FrameRecord<'_>) {
        let mut log = self.log.borrow_mut();
        let written = log
            .as_mut()
            .map_or(Ok(()), |log| log.record(record).and_then(|()| log.flush()));
        if let Err(error) = written {
            tracing::warn!(%error, "the capture ended");
            *log = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::transport::capture::Payloads;
    use crate::wire::frame::FrameHead;
    use crate::wire::status::Status;

    #[test]
    fn an_answer_is_captured_under_the_operation_that_it_answers() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("capture.jsonl");
        let config = CaptureConfig {
            file: file.clone(),
            payloads: Payloads::Omit,
        };
        let mut tap = Capture::open(Some(&config)).unwrap().unwrap().tap();
        let mut record = Vec::new();
        let (opcode, corr) = (Opcode::DeviceList, 7);
        FrameHead::new(0, Body::Request { opcode, corr }).emit(&[0x80], &mut record);
        tap.record(Mono(1), true, Tier::T3, &record);
        record.clear();
        let answer = Body::Response {
            corr,
            status: Status::Ok,
            more: false,
        };
        FrameHead::new(0, answer).emit(&[0x80], &mut record);
        tap.record(Mono(2), false, Tier::T3, &record);
        let lines = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains(r#""dir":"out","tier":3,"kind":"request","op":"DEVICE_LIST""#));
        assert!(lines[1].contains(r#""dir":"in","tier":3,"kind":"response","op":"DEVICE_LIST""#));
        assert!(!lines[1].contains("payload"));
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
