//! Faults are exact on virtual time and the same for the same seed.

use std::time::Duration;

use myclerk::transport::fault::{Faults, inject};
use myclerk::transport::{Path, TransportError, memory};
use tokio::time::{Instant, timeout};

use super::suite::{message, send};

/// What arrives of `count` messages, each as its number, and how the path ends.
async fn deliver(count: usize, faults: Faults) -> (Vec<Vec<u8>>, Result<(), TransportError>) {
    let (mut left, right) = memory::pair(1 << 20);
    let mut right = inject(right, faults);
    let sending = async {
        for number in 0..count {
            if send(&mut *left.writer, &message(number, 100))
                .await
                .is_err()
            {
                return;
            }
        }
        left.writer.close().await.unwrap();
    };
    let receiving = async {
        let mut received = Vec::new();
        loop {
            match right.reader.recv().await {
                Ok(Some(message)) => received.push(message),
                Ok(None) => return (received, Ok(())),
                Err(error) => return (received, Err(error)),
            }
        }
    };
    tokio::join!(sending, receiving).1
}

fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| message(number, 100)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_exact_and_does_not_add_up() {
    let start = Instant::now();
    let (received, _) = deliver(
        50,
        Faults {
            delay: Duration::from_millis(200),
            ..Faults::default()
        },
    )
    .await;
    assert_eq!(received, numbered(50));
    assert_eq!(start.elapsed(), Duration::from_millis(200));
}

#[tokio::test(start_paused = true)]
async fn jitter_keeps_the_order() {
    let faults = Faults {
        seed: 3,
        jitter: Duration::from_millis(40),
        ..Faults::default()
    };
    assert_eq!(deliver(200, faults).await.0, numbered(200));
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_course() {
    let faults = |seed| Faults {
        seed,
        jitter: Duration::from_millis(10),
        loss: 100,
        flip: 100,
        reorder: 100,
        reorder_by: Duration::from_millis(5),
        ..Faults::default()
    };
    let first = deliver(500, faults(1)).await.0;
    assert_eq!(first, deliver(500, faults(1)).await.0);
    assert_ne!(first, deliver(500, faults(2)).await.0);
}

#[tokio::test(start_paused = true)]
async fn loss_takes_whole_messages() {
    let faults = Faults {
        loss: 300,
        ..Faults::default()
    };
    let (received, end) = deliver(200, faults).await;
    end.unwrap();
    assert!((1..200).contains(&received.len()));
    let all = numbered(200);
    let mut rest = all.iter();
    assert!(
        received
            .iter()
            .all(|message| rest.any(|sent| sent == message))
    );
}

#[tokio::test(start_paused = true)]
async fn a_flip_inverts_one_bit() {
    let faults = Faults {
        flip: 1000,
        ..Faults::default()
    };
    for (received, sent) in deliver(100, faults).await.0.iter().zip(numbered(100)) {
        let bits: u32 = received
            .iter()
            .zip(&sent)
            .map(|(one, other)| (one ^ other).count_ones())
            .sum();
        assert_eq!(bits, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_message_is_overtaken_and_none_is_lost() {
    let faults = Faults {
        seed: 5,
        reorder: 200,
        reorder_by: Duration::from_millis(20),
        ..Faults::default()
    };
    let mut received = deliver(100, faults).await.0;
    assert_ne!(received, numbered(100));
    received.sort();
    let mut all = numbered(100);
    all.sort();
    assert_eq!(received, all);
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_both_ends_after_the_given_amount() {
    for faults in [
        Faults {
            cut_after_messages: Some(7),
            ..Faults::default()
        },
        Faults {
            cut_after_bytes: Some(799),
            delay: Duration::from_secs(1),
            ..Faults::default()
        },
    ] {
        let (received, end) = deliver(100, faults).await;
        assert_eq!(received, numbered(7));
        assert!(matches!(end, Err(TransportError::Truncated)));
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_path_that_keeps_order_calls_itself_ordered() {
    let with = |faults| inject(memory::pair(1).0, faults).control.ordered();
    assert!(with(Faults::default()));
    assert!(with(Faults {
        flip: 1,
        ..Faults::default()
    }));
    assert!(!with(Faults {
        loss: 1,
        ..Faults::default()
    }));
    assert!(!with(Faults {
        reorder: 1,
        ..Faults::default()
    }));
}

#[tokio::test(start_paused = true)]
async fn a_long_delay_does_not_queue_without_bound() {
    let (mut left, right) = memory::pair(1000);
    let mut right: Path = inject(
        right,
        Faults {
            delay: Duration::from_secs(3600),
            ..Faults::default()
        },
    );
    let flood = async {
        let mut sent = 0;
        while send(&mut *left.writer, &message(sent, 100)).await.is_ok() {
            sent += 1;
            assert!(sent < 2000, "a delayed path takes everything");
        }
    };
    let reading = right.reader.recv();
    assert!(
        timeout(Duration::from_secs(60), async {
            tokio::join!(flood, reading)
        })
        .await
        .is_err()
    );
}
