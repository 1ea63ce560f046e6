//! The requests that every device answers alike (USB 2.0, 9.4).

use std::collections::{BTreeMap, BTreeSet};

use super::description::CONFIGURED;
use super::{Description, Fault, Setup};

const GET_STATUS: u8 = 0;
const CLEAR_FEATURE: u8 = 1;
const SET_FEATURE: u8 = 3;
const GET_DESCRIPTOR: u8 = 6;
const GET_CONFIGURATION: u8 = 8;
const SET_CONFIGURATION: u8 = 9;
const GET_INTERFACE: u8 = 10;
const SET_INTERFACE: u8 = 11;

const TO_DEVICE: u8 = 0x00;
const TO_INTERFACE: u8 = 0x01;
const TO_ENDPOINT: u8 = 0x02;
const IN: u8 = 0x80;
/// Bits of bmRequestType that say whose request it is; 0 is the standard's.
const WHOSE: u8 = 0x60;

/// The only feature of an endpoint.
const ENDPOINT_HALT: u16 = 0;

/// What the standard requests change.
#[derive(Debug, Default)]
pub(super) struct Standard {
    configuration: u8,
    alternates: BTreeMap<u8, u8>,
    halted: BTreeSet<u8>,
}

/// What a request did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// These bytes are its data stage.
    Data(Vec<u8>),
    /// The device begins anew, and there is no data stage.
    Anew,
}

impl Standard {
    /// Whether the request is one of these.
    pub(super) const fn is_for(setup: Setup) -> bool {
        setup.request_type & WHOSE == 0
    }

    /// The host reset the device, or it was plugged in.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// The endpoint stalled: it is halted until the host clears that.
    pub(super) fn halt(&mut self, endpoint: u8) {
        self.halted.insert(endpoint);
    }

    pub(super) fn is_halted(&self, endpoint: u8) -> bool {
        self.halted.contains(&endpoint)
    }

    /// Answers a request.
    pub(super) fn answer(
        &mut self,
        description: &Description,
        setup: Setup,
    ) -> Result<Answered, Fault> {
        let [low, _] = setup.value.to_le_bytes();
        let [target, _] = setup.index.to_le_bytes();
        let data = match (setup.request_type, setup.request) {
            (kind, GET_STATUS) if kind & IN != 0 => self.status(kind & !IN, target)?,
            (0x80, GET_DESCRIPTOR) => description.descriptor(setup.value).ok_or(Fault::Stall)?,
            (0x80, GET_CONFIGURATION) => vec![self.configuration],
            (0x81, GET_INTERFACE) if self.configuration != 0 && description.has(target, 0) => {
                vec![self.alternates.get(&target).copied().unwrap_or(0)]
            }
            (TO_DEVICE, SET_CONFIGURATION) if low == 0 || low == CONFIGURED => {
                self.reset();
                self.configuration = low;
                return Ok(Answered::Anew);
            }
            (TO_INTERFACE, SET_INTERFACE) if description.has(target, low) => {
                self.alternates.insert(target, low);
                self.halted.clear();
                Vec::new()
            }
            (TO_ENDPOINT, CLEAR_FEATURE) if setup.value == ENDPOINT_HALT => {
                self.halted.remove(&target);
                Vec::new()
            }
            (TO_ENDPOINT, SET_FEATURE) if setup.value == ENDPOINT_HALT => {
                self.halt(target);
                Vec::new()
            }
            _ => return Err(Fault::Stall),
        };
        Ok(Answered::Data(data))
    }

    fn status(&self, recipient: u8, target: u8) -> Result<Vec<u8>, Fault> {
        match recipient {
            // Self-powered.
            TO_DEVICE => Ok(vec![1, 0]),
            TO_INTERFACE => Ok(vec![0, 0]),
            TO_ENDPOINT => Ok(vec![u8::from(self.is_halted(target)), 0]),
            _ => Err(Fault::Stall),
        }
    }
}
