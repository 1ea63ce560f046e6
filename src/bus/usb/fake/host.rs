//! The fake device behind the traits of the real one.

use core::task::{Context, Poll};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use nix::errno::Errno;

use super::state::DESCRIPTORS;
use super::{Act, Fake};
use crate::bus::usb::enumerate::Location;
use crate::bus::usb::hardware::{Opening, UsbDevice, UsbHost, UsbPort};
use crate::kernel::usbfs::{Completion, SETUP_LEN, Transfer};

/// A machine with fake devices.
#[derive(Clone, Default)]
pub struct FakeHost {
    devices: HashMap<(u8, u8), Fake>,
}

impl FakeHost {
    /// Plugs a device in.
    #[must_use]
    pub fn with(mut self, bus: u8, address: u8, device: Fake) -> Self {
        self.devices.insert((bus, address), device);
        self
    }
}

impl UsbHost for FakeHost {
    fn open<'a>(&'a self, location: &Location) -> Opening<'a> {
        let device = self.devices.get(&(location.bus, location.address)).cloned();
        Box::pin(async move {
            let device = device.ok_or_else(|| io::Error::from(Errno::ENOENT))?;
            device.is_gone()?;
            if let Some(errno) = device.state().refuse_open {
                return Err(errno.into());
            }
            let device: Box<dyn UsbDevice> = Box::new(device);
            Ok(device)
        })
    }
}

impl UsbDevice for Fake {
    fn submit(&self, transfer: Transfer) -> Result<(), Errno> {
        self.state().submit(transfer)
    }

    fn reap(&self) -> Result<Option<Completion>, Errno> {
        self.state().reap()
    }

    fn claim(&self, interface: u8) -> Result<(), Errno> {
        self.state().claim(interface)
    }

    fn poll_completed(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if core::mem::take(&mut state.told) {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn port(&self) -> Arc<dyn UsbPort> {
        Arc::new(self.clone())
    }
}

impl UsbPort for Fake {
    fn descriptors(&self) -> io::Result<Vec<u8>> {
        self.is_gone()?;
        Ok(DESCRIPTORS.to_vec())
    }

    fn active_configuration(&self) -> Result<u8, Errno> {
        Ok(self.state().configuration)
    }

    fn speed(&self) -> Result<u8, Errno> {
        Ok(3)
    }

    fn control(&self, setup: [u8; SETUP_LEN], data: &mut [u8], _: u32) -> Result<usize, Errno> {
        self.call(Act::Control, |state| {
            let answer = state.answer(setup, &[]).ok_or(Errno::EPIPE)?;
            let length = answer.len().min(data.len());
            for (to, from) in data.iter_mut().zip(answer) {
                *to = from;
            }
            Ok(length)
        })
    }

    fn discard(&self, key: u64) -> Result<(), Errno> {
        self.call(Act::Discard, |state| state.discard(key))
    }

    fn claim(&self, interface: u8) -> Result<(), Errno> {
        self.state().claim(interface)
    }

    fn disconnect_claim(&self, interface: u8) -> Result<(), Errno> {
        self.call(Act::Claim(interface), |state| {
            if !state.interfaces().contains(&interface) {
                return Err(Errno::EINVAL);
            }
            if state.foreign.contains(&interface) || state.claimed.contains(&interface) {
                return Err(Errno::EBUSY);
            }
            if !state.contested.contains(&interface) {
                state.driven.remove(&interface);
                state.claimed.insert(interface);
            }
            Ok(())
        })
    }

    fn release(&self, interface: u8) -> Result<(), Errno> {
        self.call(Act::Release(interface), |state| {
            if !state.claimed.remove(&interface) {
                return Err(Errno::EINVAL);
            }
            state.unlink_interface(interface);
            state.alternates.remove(&interface);
            Ok(())
        })
    }

    fn driver(&self, interface: u8) -> Result<Option<String>, Errno> {
        let state = self.state();
        if state.gone {
            return Err(Errno::ENODEV);
        }
        let by_program = state.claimed.contains(&interface) || state.foreign.contains(&interface);
        let by_kernel = state.driven.contains(&interface);
        let driver = by_program.then_some("usbfs");
        Ok(driver.or(by_kernel.then_some("fake")).map(str::to_owned))
    }

    fn connect(&self, interface: u8) -> Result<(), Errno> {
        self.call(Act::Connect(interface), |state| {
            if !state.interfaces().contains(&interface) {
                return Err(Errno::EINVAL);
            }
            if state.claimed.contains(&interface) || !state.driven.insert(interface) {
                return Err(Errno::EBUSY);
            }
            Ok(())
        })
    }

    fn set_configuration(&self, value: u8) -> Result<(), Errno> {
        self.call(Act::SetConfiguration(value), |state| {
            if !state.claimed.is_empty() || !state.driven.is_empty() {
                state.complain("a configuration is set while it is in use".to_owned());
                return Err(Errno::EBUSY);
            }
            state.set_configuration(value)
        })
    }

    fn set_interface(&self, interface: u8, alternate: u8) -> Result<(), Errno> {
        let act = Act::SetInterface(interface, alternate);
        self.call(act, |state| state.set_interface(interface, alternate))
    }

    fn clear_halt(&self, endpoint: u8) -> Result<(), Errno> {
        self.call(Act::ClearHalt(endpoint), |state| {
            let owner = state.owner(endpoint).ok_or(Errno::ENOENT)?;
            state.use_interface(owner)?;
            state.halted.remove(&endpoint);
            Ok(())
        })
    }

    fn reset(&self) -> Result<(), Errno> {
        self.call(Act::Reset, |state| {
            if !state.claimed.is_empty() {
                state.complain("a reset unbinds claimed interfaces".to_owned());
            }
            state.halted.clear();
            state.alternates.clear();
            state.memory.clear();
            Ok(())
        })
    }
}
