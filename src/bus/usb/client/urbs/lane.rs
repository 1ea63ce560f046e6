//! The order of the URBs of each endpoint.

use std::collections::VecDeque;

use crate::bus::usb::op::EndpointAddress;
use crate::kernel::usbip_pdu::Submit;
use crate::wire::class::Class;

/// The URBs of one endpoint, in order. While there are any, all go in the same class: two requests
/// in different classes could overtake each other on the way.
#[derive(Debug)]
pub(super) struct Lane {
    order: VecDeque<u32>,
    class: Class,
}

impl Lane {
    pub(super) const fn new() -> Self {
        Self {
            order: VecDeque::new(),
            class: Class::Interactive,
        }
    }

    /// The control endpoint is one, whatever the direction; of the others each direction is its own.
    pub(super) fn of(submit: &Submit) -> usize {
        let input = submit.input && submit.ep != 0;
        EndpointAddress::new(submit.ep, input).map_or(0, EndpointAddress::index)
    }

    /// Adds a URB and returns the class it must go in.
    pub(super) fn enter(&mut self, seqnum: u32, class: Class) -> Class {
        if self.order.is_empty() {
            self.class = class;
        }
        self.order.push_back(seqnum);
        self.class
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.order.front().copied()
    }

    pub(super) fn leave(&mut self, seqnum: u32) {
        if self.first() == Some(seqnum) {
            self.order.pop_front();
        } else {
            self.order.retain(|other| *other != seqnum);
        }
    }
}
