//! From a wish to a character device, and back to it after an outage.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::lent::Lent;
use super::pump::{Pump, Steering};
use crate::bus::chardev::make::{self, Made};
use crate::bus::names::NameFile;
use crate::bus::outage::{Returning, again};
use crate::bus::spi::enumerate::numbers;
use crate::bus::spi::op::{Change, OpenRequest, Opened, Settings};
use crate::bus::{AttachError, Attaching, Ended, Local, Opener, Presenter, Wish};
use crate::wire::opcode::Opcode;

/// How long the owner has to open its device.
const OPENING: Duration = Duration::from_secs(10);
/// How many buses are tried for a free name.
const BUSES: u32 = 256;

/// How a device is opened whose owner cannot leave it as it is: what most chips understand.
const PLAIN: Settings = Settings {
    mode: 0,
    bits: 8,
    hz: 500_000,
};

/// SPI devices become character devices.
pub const PRESENTER: Presenter = Presenter {
    class: "spi",
    ways: &["cuse"],
    named: false,
    options: &[],
    check: make::check,
    attach: |opener, wish, _| -> Attaching { Box::pin(attach(opener, wish)) },
    operate: None,
};

/// A device as it is, and its stream.
pub type Reopened = (Opened, Lent);

/// What is needed to come out of an outage.
pub struct Outage {
    /// The owner.
    pub opener: Rc<dyn Opener>,
    /// Its device.
    pub device: String,
    /// How long it is waited for.
    pub grace: Duration,
}

impl Outage {
    /// The session was lost: the device is to be opened again with the settings that it has then.
    ///
    /// # Errors
    /// How it ends where nothing is waited for.
    pub fn begin(&self, settings: Rc<Cell<Settings>>) -> Result<Returning<Reopened>, Ended> {
        if self.grace.is_zero() {
            return Err(Ended::Session);
        }
        let device = self.device.clone();
        tracing::info!(device, "the owner of the SPI device cannot be reached");
        Ok(again(Rc::clone(&self.opener), self.grace, move |opener| {
            let (device, settings) = (device.clone(), settings.get());
            async move { open(opener.as_ref(), &device, Some(&settings)).await }
        }))
    }
}

/// Opens the owner's device, as it is or with these settings.
///
/// # Errors
/// The owner refused it, or answered without sense.
pub async fn open(
    opener: &dyn Opener,
    device: &str,
    settings: Option<&Settings>,
) -> Result<Reopened, AttachError> {
    let request = OpenRequest {
        dev: device.to_owned(),
        settings: settings.copied().unwrap_or(PLAIN),
        keep: settings.is_none(),
    };
    let payload = request.encode().map_err(|error| senseless(&error))?;
    let (answer, stream) = opener.open(Opcode::SpiDeviceOpen, payload, OPENING).await?;
    let mut stream = Lent::new(stream);
    match set_up(&mut stream, &answer, settings).await {
        Ok(opened) => Ok((opened, stream)),
        Err(error) => {
            // What it did answer is what a person wants to know.
            stream.close().await;
            Err(error)
        }
    }
}

/// Sets the bits of the mode for which an opening has no key.
async fn set_up(
    stream: &mut Lent,
    answer: &[u8],
    settings: Option<&Settings>,
) -> Result<Opened, AttachError> {
    let mut opened = Opened::decode(answer).map_err(|error| senseless(&error))?;
    if let Some(settings) = settings
        && opened.ext.is_some()
        && opened.settings.mode != settings.mode
    {
        let change = Change::of_mode(settings.mode, true);
        let payload = change.encode().map_err(|error| senseless(&error))?;
        let answer = stream.ask(Opcode::SpiConfigure, payload).await?;
        let actual = Opened::decode(&answer).map_err(|error| senseless(&error))?;
        opened.settings = actual.settings;
    }
    Ok(opened)
}

fn senseless(error: &dyn core::error::Error) -> AttachError {
    AttachError::Answer(error.to_string())
}

async fn attach(opener: Rc<dyn Opener>, wish: Wish) -> Result<Local, AttachError> {
    let names = names(&wish)?;
    make::check()?;
    let (opened, mut stream) = open(opener.as_ref(), &wish.device, None).await?;
    match make::make(&wish, names) {
        Ok(Made { device, name, file }) => {
            let outage = Outage {
                opener,
                device: wish.device,
                grace: wish.grace,
            };
            let node = format!("/dev/{name}");
            let (pump, steering) =
                Pump::new(Rc::new(device), (opened, stream), outage, node.clone());
            Ok(start(pump, steering, node, file))
        }
        Err(error) => {
            stream.close().await;
            Err(error)
        }
    }
}

fn start(pump: Pump, steering: Steering, node: String, file: Option<NameFile>) -> Local {
    tracing::info!(%node, "SPI device attached");
    let task = tokio::task::spawn_local(async move {
        let ended = pump.run(move || drop(file)).await;
        tracing::info!(%node, %ended, "SPI device detached");
        ended
    });
    Local {
        handle: Rc::new(steering),
        ended: Box::pin(async move {
            task.await
                .unwrap_or_else(|error| Ended::Failed(error.to_string()))
        }),
    }
}

/// The names that will do, the best first.
fn names(wish: &Wish) -> Result<Vec<String>, AttachError> {
    if let Some(name) = &wish.name {
        if numbers(name).is_none() {
            return Err(AttachError::Wish(format!(
                "{name:?} cannot be the name of an SPI device: spidev, the number of a bus, a dot and \
                 the number of a chip select, as spidev7.0"
            )));
        }
        return Ok(vec![name.clone()]);
    }
    let place = wish.device.strip_prefix("spi:").unwrap_or(&wish.device);
    let (bus, select) = numbers(place).unwrap_or_default();
    let buses = (0..BUSES).map(|beyond| bus.saturating_add(beyond));
    Ok(buses.map(|bus| format!("spidev{bus}.{select}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(device: &str, name: Option<&str>) -> Wish {
        Wish {
            device: device.to_owned(),
            name: name.map(str::to_owned),
            ..Wish::default()
        }
    }

    #[test]
    fn a_device_is_called_as_at_its_owner_where_that_is_free() {
        let found = names(&wish("spi:spidev3.1", None)).unwrap();
        assert_eq!(
            found.get(..2),
            Some(&["spidev3.1".to_owned(), "spidev4.1".to_owned()][..])
        );
        let found = names(&wish("spi:sensor", None)).unwrap();
        assert_eq!(found.first().map(String::as_str), Some("spidev0.0"));
    }

    #[test]
    fn a_chosen_name_is_one_that_tools_know() {
        let found = names(&wish("spi:spidev3.1", Some("spidev7.0"))).unwrap();
        assert_eq!(found, ["spidev7.0"]);
        for bad in ["flash", "../spidev0.0", "spidev0"] {
            let refused = names(&wish("spi:spidev3.1", Some(bad)));
            assert!(matches!(refused, Err(AttachError::Wish(_))), "{bad}");
        }
    }
}
