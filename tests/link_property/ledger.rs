//! Credit, counted independently from what stands in the records.

use crate::kinds::kind_of;
use crate::link_pipe::Sealed;
use crate::world::World;
use myclerk::link::StreamKind;
use myclerk::wire::frame::{self, Body, RawFrame};

impl World {
    /// A CREDIT reached `end`.
    pub(crate) fn note_credit(&mut self, end: usize, sealed: &Sealed) {
        for raw in frame::frames(&sealed.plaintext, usize::MAX) {
            if let RawFrame::Whole(frame) = raw.unwrap()
                && let Body::Credit { limit } = frame.head.body
            {
                let granted = self.granted[end].entry(frame.head.stream).or_default();
                *granted = limit.max(*granted);
            }
        }
    }

    /// Counts every DATA and EVENT byte that leaves `end` against what it knows to be allowed.
    pub(crate) fn check_credit(&mut self, end: usize, sealed: &Sealed) {
        for raw in frame::frames(&sealed.plaintext, usize::MAX) {
            let (counted, bytes) = match raw.unwrap() {
                RawFrame::Whole(frame) => (
                    self.counted(&frame.head.body, frame.head.stream),
                    frame.payload.len(),
                ),
                RawFrame::Fragment {
                    flags,
                    header,
                    piece,
                } => {
                    if header.index == 0 {
                        let whole = myclerk::wire::flags::Flags {
                            fragment: false,
                            ..flags
                        };
                        let first =
                            frame::parse_unit(whole, piece).expect("the head is in piece 0");
                        let counted = self.counted(&first.head.body, first.head.stream);
                        self.units[end].insert(header.message_id, counted);
                        (counted, first.payload.len())
                    } else {
                        (self.units[end][&header.message_id], piece.len())
                    }
                }
            };
            let Some((stream, session)) = counted else {
                continue;
            };
            let bytes = u64::try_from(bytes).unwrap();
            // What follows of a unit begun before its stream was reset is nobody's stream.
            if !self.reset.contains(&stream) {
                self.spend(end, stream, bytes);
            }
            if session {
                self.spend(end, 0, bytes);
            }
        }
    }

    pub(crate) fn counted(&self, body: &Body, stream: u32) -> Option<(u32, bool)> {
        let opener = self.streams.iter().find(|(id, _)| id.0 == stream)?.1;
        let kind = StreamKind::of(opener, kind_of(opener).1);
        let class = match body {
            Body::Data { .. } => kind.class,
            Body::Event { opcode } => myclerk::link::Class::of_event(*opcode, kind.class),
            _ => return None,
        };
        Some((stream, class.uses_session_credit()))
    }

    pub(crate) fn spend(&mut self, end: usize, stream: u32, bytes: u64) {
        let initial = match stream {
            0 => self.limits.scr,
            _ => self.limits.cr,
        };
        let granted = self.granted[end].get(&stream).copied().unwrap_or_default();
        let sent = self.sent[end].entry(stream).or_default();
        *sent += bytes;
        let limit = granted.max(initial.into());
        assert!(
            *sent <= limit,
            "{sent} bytes on stream {stream}, {limit} granted"
        );
    }
}
