//! Descriptors that lie, in every way that was thought of.

use crate::fuzz::rig;

/// The first 18 bytes of a device with that many configurations.
fn device(configurations: u8) -> Vec<u8> {
    let mut device = rig::DESCRIPTORS[..18].to_vec();
    device[17] = configurations;
    device
}

fn configuration(value: u8, total: usize, body: &[u8]) -> Vec<u8> {
    let [low, high] = u16::try_from(total).unwrap_or(u16::MAX).to_le_bytes();
    let header = [9, 2, low, high, 1, value, 0, 0x80, 50];
    [&header[..], body].concat()
}

fn whole(body: &[u8]) -> Vec<u8> {
    [device(1), configuration(1, 9 + body.len(), body)].concat()
}

const fn interface(number: u8, alternate: u8) -> [u8; 9] {
    [9, 4, number, alternate, 2, 0xff, 0, 0, 0]
}

const fn endpoint(address: u8) -> [u8; 7] {
    [7, 5, address, 2, 0, 2, 0]
}

/// 32 interfaces with as many alternate settings each as 64 KiB hold, the number going to 255.
fn many_settings() -> Vec<u8> {
    let mut body = Vec::new();
    for alternate in 0..=u8::MAX {
        for number in 0..32 {
            body.extend(interface(number, alternate));
        }
    }
    body.truncate(65_500);
    body
}

/// Each with what it is.
pub(crate) fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let good = [&interface(0, 0)[..], &endpoint(0x81)].concat();
    let of_length = |length: u8| {
        let mut body = good.clone();
        body.extend([length, 0x24, 1, 2, 3]);
        body.extend(endpoint(0x02));
        whole(&body)
    };
    let every_endpoint: Vec<u8> = (0..=u8::MAX).flat_map(endpoint).collect();
    let twice: Vec<u8> = [endpoint(0x81); 500].concat();
    let many: Vec<u8> = (0..=u8::MAX)
        .flat_map(|value| configuration(value, 9 + good.len(), &good))
        .collect();
    vec![
        ("bLength 0", of_length(0)),
        ("bLength 1", of_length(1)),
        ("bLength 255", of_length(255)),
        (
            "a total of 0",
            [device(1), configuration(1, 0, &good)].concat(),
        ),
        (
            "a total of 8",
            [device(1), configuration(1, 8, &good)].concat(),
        ),
        (
            "a total beyond",
            [device(1), configuration(1, 65_535, &good)].concat(),
        ),
        ("255 configurations", [device(255), many].concat()),
        ("255 promised, none there", device(255)),
        ("no configuration", device(0)),
        (
            "a configuration 0",
            [device(1), configuration(0, 25, &good)].concat(),
        ),
        ("32 x 256 settings", whole(&many_settings())),
        (
            "every address",
            whole(&[&interface(0, 0)[..], &every_endpoint].concat()),
        ),
        (
            "one address 500 times",
            whole(&[&interface(0, 0)[..], &twice].concat()),
        ),
        (
            "endpoints before an interface",
            whole(&[&endpoint(0x81)[..], &good].concat()),
        ),
        ("64 KiB of nothing", whole(&vec![0; 65_500])),
        ("64 KiB of 2s", whole(&vec![2; 65_500])),
        ("64 KiB of 255s", whole(&vec![255; 65_500])),
        ("interface 255", whole(&interface(255, 255))),
        ("8 x 64 KiB", {
            let body = many_settings();
            let each = |value| configuration(value, 9 + body.len(), &body);
            [device(255), (1..9).flat_map(each).collect()].concat()
        }),
        ("a short device", rig::DESCRIPTORS[..18].to_vec()),
    ]
}
