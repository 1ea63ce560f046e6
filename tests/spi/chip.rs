//! A flash chip through both halves.

use myclerk::bus::spi::fake::FakeSpi;

use crate::program::Program;
use crate::rig::{Bench, run};

async fn write_enable(program: &Program) {
    program.exchange(&[0x06]).await.unwrap();
}

async fn status(program: &Program) -> u8 {
    program.command(&[0x05], 1).await.unwrap()[0]
}

#[test]
fn a_flash_chip_is_known_erased_written_and_read() {
    run(async {
        let chip = FakeSpi::flash();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        let id = program.command(&[0x9F], 3).await.unwrap();
        assert_eq!(id, [0xEF, 0x40, 0x14]);
        let page: Vec<u8> = (0..=255).collect();
        let programming = [&[0x02, 0x01, 0x23, 0x00][..], &page].concat();
        // Nothing is written before it is allowed.
        program.exchange(&programming).await.unwrap();
        assert_eq!(chip.memory()[0x01_2300], 0xFF);
        write_enable(&program).await;
        assert_eq!(status(&program).await, 2);
        program.write(&programming).await.unwrap();
        assert_eq!(status(&program).await, 0);
        let read = program.command(&[0x03, 0x01, 0x23, 0x00], 256).await;
        assert_eq!(read, Ok(page.clone()));
        let fast = program.command(&[0x0B, 0x01, 0x23, 0x10, 0], 4).await;
        assert_eq!(fast, Ok(vec![0x10, 0x11, 0x12, 0x13]));
        write_enable(&program).await;
        program.write(&[0x20, 0x01, 0x20, 0x00]).await.unwrap();
        assert!(chip.memory().iter().all(|byte| *byte == 0xFF));
    });
}
