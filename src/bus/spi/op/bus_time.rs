//! How long a message keeps the bus.

use super::{Settings, Transfer};

/// About so many microseconds these transfers take with a device that is set up so. A clock that nobody
/// knows takes no time.
pub fn bus_us(transfers: &[Transfer], settings: &Settings) -> u64 {
    transfers
        .iter()
        .map(|transfer| transfer_us(transfer, settings))
        .fold(0, u64::saturating_add)
}

/// About so many microseconds the clock runs for these bytes.
pub fn clocked_us(bytes: u64, hz: u32) -> u64 {
    bytes
        .saturating_mul(8_000_000)
        .checked_div(hz.into())
        .unwrap_or_default()
}

fn transfer_us(transfer: &Transfer, settings: &Settings) -> u64 {
    let or_set = |own, set| if own == 0 { set } else { own };
    let bytes = u64::try_from(transfer.len()).unwrap_or(u64::MAX);
    let bits = match or_set(transfer.bits, settings.bits) {
        0 => 8,
        bits => u64::from(bits),
    };
    let words = bytes.div_ceil(bits.div_ceil(8).next_power_of_two());
    let hz = if transfer.hz == 0 {
        settings.hz
    } else {
        transfer.hz
    };
    words
        .saturating_mul(transfer.word_delay_us.into())
        .saturating_add(transfer.delay_us.into())
        .saturating_add(clocked_us(bytes, hz))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_takes_its_clock_and_its_delays() {
        let settings = Settings {
            mode: 0,
            bits: 16,
            hz: 1000,
        };
        let transfers = [
            Transfer {
                tx: vec![0; 4],
                rx_len: 4,
                word_delay_us: 10,
                ..Transfer::default()
            },
            Transfer {
                idle_len: 5,
                hz: 1_000_000,
                bits: 8,
                delay_us: 7,
                word_delay_us: 1,
                ..Transfer::default()
            },
        ];
        assert_eq!(bus_us(&transfers, &settings), 32_000 + 20 + 40 + 7 + 5);
        assert_eq!(clocked_us(u64::MAX, 1), u64::MAX);
        assert_eq!(clocked_us(1, 0), 0);
    }
}
