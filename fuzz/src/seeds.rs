//! Inputs to start from: what well-behaved ends say, and short scripts of every act.

use myclerk::bus::usb::fake;
use myclerk::bus::usb::op::{
    AttachRequest, AttachResponse, BulkTransfer, ClearHalt, ControlTransfer, DescriptorReply,
    DeviceEntry, DeviceList, EndpointAddress, GetDescriptor, InterruptTransfer, IsoPacket,
    IsoReply, IsoTransfer, Mode, SetConfiguration, SetInterface, Setup, Speed, TransferFlags,
    TransferReply,
};
use myclerk::kernel::usbip_pdu::{
    Command, IsoDescriptor, RetSubmit, RetUnlink, Return, Submit, Unlink,
};

use super::rig::DESCRIPTORS;

/// A seed.
pub struct Seed {
    /// The target it is for.
    pub target: &'static str,
    /// The file's name.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// All of them.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target, inputs: Vec<(&str, Vec<u8>)>| {
        for (name, bytes) in inputs {
            let name = format!("seed-{name}");
            seeds.push(Seed {
                target,
                name,
                bytes,
            });
        }
    };
    add("usbip_commands", commands());
    add("usbip_answers", answers());
    add("usb_ops", requests());
    add("usb_ops", replies());
    add("usb_descriptors", descriptors());
    add("hostile_server", servers());
    add("hostile_client", clients());
    seeds
}

const URB: Submit = Submit {
    seqnum: 1,
    devid: 0x0001_0002,
    input: true,
    ep: 1,
    transfer_flags: 1,
    length: 64,
    start_frame: 0,
    packets: 0,
    interval: 0,
    setup: [0; 8],
};

fn packets(count: u32, length: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for at in 0..count {
        let packet = IsoDescriptor {
            offset: at * length,
            length,
            actual_length: 0,
            status: 0,
        };
        packet.write(&mut bytes);
    }
    bytes
}

fn commands() -> Vec<(&'static str, Vec<u8>)> {
    let read = Command::Submit(URB).to_bytes().to_vec();
    let write = Submit {
        input: false,
        ep: 2,
        length: 5,
        ..URB
    };
    let write = [&Command::Submit(write).to_bytes()[..], b"hello"].concat();
    let control = Submit {
        ep: 0,
        length: 18,
        setup: [0x80, 6, 0, 1, 0, 0, 18, 0],
        ..URB
    };
    let control = Command::Submit(control).to_bytes().to_vec();
    let iso = |input, ep| {
        let submit = Submit {
            seqnum: 7,
            input,
            ep,
            length: 32,
            packets: 4,
            ..URB
        };
        let data = vec![3; submit.data_len() as usize];
        [
            &Command::Submit(submit).to_bytes()[..],
            &data,
            &packets(4, 8),
        ]
        .concat()
    };
    let unlink = |seqnum, target| {
        Command::Unlink(Unlink { seqnum, target })
            .to_bytes()
            .to_vec()
    };
    let all = [
        read.clone(),
        write.clone(),
        iso(true, 5),
        iso(false, 6),
        unlink(9, 1),
        unlink(10, 3),
        control.clone(),
    ];
    let pieces = |size: u8, bytes: &[Vec<u8>]| [&[size][..], &bytes.concat()].concat();
    vec![
        ("read", pieces(47, &[read])),
        ("write", pieces(20, &[write])),
        ("control", pieces(255, &[control])),
        ("iso-read", pieces(15, &[iso(true, 5)])),
        ("iso-write", pieces(255, &[iso(false, 6)])),
        ("unlink-first", pieces(47, &[unlink(2, 1)])),
        ("all", pieces(255, &all)),
    ]
}

fn answers() -> Vec<(&'static str, Vec<u8>)> {
    let submit = Return::Submit(RetSubmit {
        seqnum: 5,
        status: -32,
        actual_length: 6,
        start_frame: 0,
        packets: 0,
        error_count: 1,
    });
    let unlink = Return::Unlink(RetUnlink {
        seqnum: 6,
        status: -104,
    });
    let with = |bytes: &[u8]| [&[0xff, 0][..], bytes].concat();
    vec![
        ("submit", with(&submit.to_bytes())),
        ("unlink", with(&unlink.to_bytes())),
        ("packets", with(&packets(5, 51))),
    ]
}

fn payload(kind: u8, encode: impl FnOnce(&mut Vec<u8>), data: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    encode(&mut out);
    out.extend_from_slice(data);
    out
}

fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let (input, output) = (endpoint(0x81), endpoint(0x02));
    let get = GetDescriptor {
        kind: 3,
        index: 1,
        lang: 0x0409,
        len: 255,
    };
    let configuration = SetConfiguration { configuration: 1 };
    let interface = SetInterface {
        interface: 1,
        alternate: 1,
    };
    let halt = ClearHalt { ep: input };
    let iso = |ep| IsoTransfer {
        ep,
        flags: TransferFlags::default(),
        start_frame: None,
        ttl_ms: 200,
        packets: vec![3, 0, 2],
    };
    let mut seeds = transfers(input, output);
    seeds.extend([
        ("iso-read", payload(3, |out| iso(input).encode(out), &[])),
        (
            "iso-write",
            payload(3, |out| iso(output).encode(out), b"abcde"),
        ),
        ("get-descriptor", payload(6, |out| get.encode(out), &[])),
        (
            "configuration",
            payload(8, |out| configuration.encode(out), &[]),
        ),
        ("interface", payload(9, |out| interface.encode(out), &[])),
        ("halt", payload(10, |out| halt.encode(out), &[])),
    ]);
    seeds
}

fn transfers(input: EndpointAddress, output: EndpointAddress) -> Vec<(&'static str, Vec<u8>)> {
    let flags = TransferFlags {
        short_not_ok: true,
        zero_packet: false,
    };
    let control = ControlTransfer {
        flags,
        timeout_ms: 1000,
        setup: Setup::from_bytes([0x80, 6, 0, 1, 0, 0, 18, 0]),
        len: 18,
    };
    let bulk = |ep, len| BulkTransfer {
        ep,
        flags,
        timeout_ms: 0,
        len,
    };
    let interrupt = InterruptTransfer {
        ep: input,
        flags,
        timeout_ms: 0,
        len: 8,
        interval: 4,
    };
    vec![
        ("control", payload(0, |out| control.encode(out), &[])),
        (
            "bulk-read",
            payload(1, |out| bulk(input, 16 << 20).encode(out), &[]),
        ),
        (
            "bulk-write",
            payload(1, |out| bulk(output, 4).encode(out), b"data"),
        ),
        ("interrupt", payload(2, |out| interrupt.encode(out), &[])),
    ]
}

fn replies() -> Vec<(&'static str, Vec<u8>)> {
    let iso = IsoReply {
        status: 0,
        start_frame: 0,
        errors: 1,
        packets: vec![
            IsoPacket {
                actual: 3,
                status: 0,
            },
            IsoPacket {
                actual: 0,
                status: -18,
            },
        ],
        data: 0..0,
    };
    let descriptor = DescriptorReply {
        descriptor: b"\x04\x03\x09\x04",
    };
    let described = payload(7, |out| out.extend([255, 0]), &[]);
    let mut descriptor_reply = described;
    descriptor.encode(&mut descriptor_reply);
    let reply = |out: &mut Vec<u8>| TransferReply::encode(-121, 4, 4, out);
    vec![
        ("reply", payload(4, reply, b"data")),
        ("iso-reply", payload(5, |out| iso.encode(3, out), b"abc")),
        ("descriptor-reply", descriptor_reply),
        ("list", payload(11, |out| out.extend(list()), &[])),
        ("attach", payload(12, |out| out.extend(attach()), &[])),
        ("attached", payload(13, |out| out.extend(attached()), &[])),
    ]
}

fn endpoint(address: u8) -> EndpointAddress {
    EndpointAddress::from_u8(address).expect("an endpoint's address")
}

fn list() -> Vec<u8> {
    let entry = DeviceEntry {
        dev: "usb:0403:6001:A50285BI".to_owned(),
        vid: 0x0403,
        pid: 0x6001,
        bcd: 0x0600,
        cls: 0,
        sub: 0,
        proto: 0,
        spd: Speed::Full,
        ifs: vec![[0, 0, 0xff, 0xff, 0xff]],
        mfr: Some("FTDI".to_owned()),
        prod: None,
        ser: Some("A50285BI".to_owned()),
        state: 1,
    };
    let list = DeviceList { devs: vec![entry] };
    list.encode().expect("an encoded list")
}

fn attach() -> Vec<u8> {
    let request = AttachRequest {
        dev: "usb:0403:6001@1-4".to_owned(),
        mode: Mode::Exclusive,
        lock: Some([7; 16]),
        ifs: Some(vec![0, 1]),
        hold: None,
        token: None,
    };
    request.encode().expect("an encoded request")
}

fn attached() -> Vec<u8> {
    let response = AttachResponse {
        desc: DESCRIPTORS.to_vec(),
        spd: Speed::High,
        cfg: 1,
        devno: 0x0001_0002,
        kept: None,
    };
    response.encode().expect("an encoded response")
}

fn descriptors() -> Vec<(&'static str, Vec<u8>)> {
    let mut lying = DESCRIPTORS.to_vec();
    // wTotalLength and the length of the device descriptor.
    (lying[0], lying[20], lying[21]) = (255, 0xff, 0xff);
    vec![
        ("every-kind", DESCRIPTORS.to_vec()),
        ("two-configurations", fake::DESCRIPTORS.to_vec()),
        ("device-only", DESCRIPTORS[..18].to_vec()),
        ("lying", lying),
    ]
}

/// The first byte of an act chooses it; see `hostile_server.rs`.
fn servers() -> Vec<(&'static str, Vec<u8>)> {
    const TURNS: [u8; 2] = [15, 7];
    let read = [0, 0x81, 64, 0];
    let write = [0, 0x02, 64, 0];
    let iso = [3, 0, 0, 3, 8, 8, 8, 8];
    let honest = [6, 0, 0, 255, 255, 255, 255];
    let script = |acts: &[&[u8]]| acts.join(&TURNS[..]);
    vec![
        ("honest-read", script(&[&read, &read, &honest, &honest])),
        ("honest-write", script(&[&write, &honest])),
        ("honest-iso", script(&[&iso, &honest])),
        ("control", script(&[&[2, 0, 0x80, 6, 1, 0, 18], &honest])),
        ("too-much", script(&[&read, &[9, 0, 0, 0, 65, 65]])),
        (
            "iso-lie",
            script(&[&iso, &[9, 0, 0, 1, 3, 8, 0, 9, 0, 8, 0, 8, 0, 1]]),
        ),
        (
            "unlinked",
            script(&[&read, &read, &[5, 0], &[6, 0, 1, 0], &honest]),
        ),
        ("twice", script(&[&read, &[13, 0, 0]])),
        ("pieces", script(&[&read, &[13, 0, 1]])),
        ("unknown", script(&[&read, &[13, 9, 9, 9, 9]])),
        ("garbage", script(&[&read, &[10, 0, 0, 4, 1, 2, 3, 4]])),
        (
            "refused",
            script(&[&read, &[11, 0, 0x41, 2, 32, 0, 0, 0], &write]),
        ),
        (
            "no-room",
            script(&[&[14, 1], &read, &read, &write, &[14, 9], &honest]),
        ),
        ("reset", script(&[&read, &[12, 0, 0, 0, 10]])),
        (
            "events",
            script(&[&read, &[12, 1, 2, 9, 9, 3, 0], &[12, 1, 0, 0, 3], &honest]),
        ),
    ]
}

/// The first byte of all chooses the interfaces, that of an act what is done; see
/// `hostile_client.rs`.
fn client(choice: u8, acts: &[&[u8]]) -> Vec<u8> {
    const TURNS: [u8; 2] = [15, 15];
    let acts = acts.join(&TURNS[..]);
    [&[choice][..], &TURNS, &acts, &TURNS, &[3]].concat()
}

fn clients() -> Vec<(&'static str, Vec<u8>)> {
    const READ: &[u8] = &[0, 3, 0, 0, 64, 1];
    const WRITE: &[u8] = &[0, 2, 0, 0, 64, 1];
    const IDLE: &[u8] = &[0, 5, 0, 0, 8, 0, 4];
    const RESET: &[u8] = &[5, 5];
    const CONFIGURE: &[u8] = &[5, 0, 2];
    const CANCEL: &[u8] = &[8, 1, 3];
    const CANCEL_UNKNOWN: &[u8] = &[8, 0xff, 1, 2, 3, 4, 0];
    const SETTING: &[u8] = &[5, 1, 1, 1];
    const READ_SETTING: &[u8] = &[0, 6, 0, 0, 4, 1];
    const GET: &[u8] = &[3, 0x80, 6, 0, 1, 0, 0, 18, 0];
    const CLASS: &[u8] = &[3, 1, 11, 1, 0, 1, 0, 0];
    let mut seeds = vec![
        ("read-and-write", client(7, &[WRITE, READ])),
        (
            "cancelled",
            client(7, &[IDLE, IDLE, CANCEL, CANCEL_UNKNOWN]),
        ),
        ("one-interface", client(8, &[READ, RESET, CONFIGURE])),
        ("no-interface", client(0xf8, &[READ])),
        (
            "settings",
            client(7, &[SETTING, READ_SETTING, CONFIGURE, READ]),
        ),
        ("reset", client(7, &[IDLE, RESET, READ])),
        ("control", client(7, &[GET, CLASS])),
        ("garbage", client(7, &[&[7, 4, 3, 1, 2, 3]])),
        ("in-use", client(7, &[IDLE, &[10, 0, 5]])),
        ("unplugged", client(7, &[IDLE, READ, &[12, 0, 15], READ])),
        (
            "calls-wait",
            client(7, &[&[12, 0, 10], RESET, READ, &[8, 0, 0]]),
        ),
        ("halted", client(7, &[&[12, 3, 3], READ, &[5, 3, 3], READ])),
        ("foreign", client(7, &[&[12, 0, 14, 1], RESET])),
    ];
    seeds.extend(isochronous_clients());
    seeds
}

fn isochronous_clients() -> Vec<(&'static str, Vec<u8>)> {
    const SETTING: &[u8] = &[5, 1, 1, 2];
    const READ: &[u8] = &[6, 6, 60, 100, 0];
    const PACE: &[u8] = &[12, 10, 19];
    const TICK: &[u8] = &[12, 10, 20, 70];
    const REFUSE_SECOND: &[u8] = &[12, 10, 22, 1];
    const PLAN: &[u8] = &[12, 10, 17, 7, 0, 18];
    vec![
        ("iso-read", client(7, &[SETTING, READ])),
        ("iso-write", client(7, &[SETTING, &[6, 9, 2, 100, 192, 0]])),
        ("iso-too-long", client(7, &[SETTING, &[6, 1, 2, 193, 0]])),
        (
            "iso-cancelled",
            client(7, &[SETTING, PACE, READ, TICK, &[8, 0, 0]]),
        ),
        (
            "iso-in-part",
            client(7, &[SETTING, REFUSE_SECOND, READ, PLAN]),
        ),
    ]
}
