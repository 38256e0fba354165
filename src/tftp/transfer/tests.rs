use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::super::packet::Wish;
use super::*;

const MS: Duration = Duration::from_millis(1);

fn terms(wishes: &[Wish], length: u64) -> Terms {
    Terms::agree(wishes, length, 1468)
}

fn transfer(wishes: &[Wish], length: u64) -> Transfer {
    Transfer::new(&terms(wishes, length), length, Duration::ZERO)
}

fn blocks(first: u64, count: u64) -> Step {
    Step::SendBlocks(Blocks { first, count })
}

fn aborted() -> ClientError {
    ClientError {
        code: 8,
        text: "User aborted the transfer".to_owned(),
    }
}

#[test]
fn in_lock_step_each_block_waits_for_the_one_before() {
    let mut t = transfer(&[], 1024);
    assert_eq!(t.start(MS), blocks(1, 1));
    assert_eq!(t.ack(1, MS), blocks(2, 1));
    assert_eq!(t.ack(2, MS), blocks(3, 1), "an empty one");
    assert_eq!(t.acknowledged(), 1024);
    assert_eq!(t.ack(3, MS), Step::End(Ended::Complete));
}

#[test]
fn an_empty_file_is_one_empty_block() {
    let mut t = transfer(&[], 0);
    assert_eq!(t.start(MS), blocks(1, 1));
    assert_eq!(t.ack(1, MS), Step::End(Ended::Complete));
}

#[test]
fn options_are_acknowledged_as_block_0_first() {
    let mut t = transfer(&[Wish::WindowSize(4)], 512 * 5);
    assert_eq!(t.start(MS), Step::SendOptions);
    assert_eq!(t.ack(1, MS), Step::Wait);
    assert_eq!(t.ack(0, MS), blocks(1, 4));
    assert_eq!(t.ack(4, MS), blocks(5, 2));
    assert_eq!(t.ack(6, MS), Step::End(Ended::Complete));
}

#[test]
fn a_second_ack_of_the_same_block_is_followed_by_nothing() {
    let mut t = transfer(&[], 5000);
    t.start(MS);
    assert_eq!(t.ack(1, 2 * MS), blocks(2, 1));
    for late in 2..100 {
        assert_eq!(t.ack(1, late * MS), Step::Wait);
        assert_eq!(t.ack(0, late * MS), Step::Wait);
    }
    assert_eq!(t.ack(2, 100 * MS), blocks(3, 1));
}

#[test]
fn a_second_ack_of_the_options_is_followed_by_nothing() {
    let mut t = transfer(&[Wish::Size], 5000);
    t.start(MS);
    assert_eq!(t.ack(0, MS), blocks(1, 1));
    assert_eq!(t.ack(0, 50 * MS), Step::Wait);
}

#[test]
fn a_window_goes_on_from_the_block_that_was_lost() {
    let mut t = transfer(&[Wish::WindowSize(4)], 512 * 20);
    t.start(MS);
    t.ack(0, 11 * MS);
    // EDK II sends the same for every block that it cannot use.
    assert_eq!(t.ack(2, 21 * MS), blocks(3, 4));
    assert_eq!(t.ack(2, 31 * MS), Step::Wait);
    assert_eq!(t.ack(6, 41 * MS), blocks(7, 4));
}

#[test]
fn a_window_whose_first_block_was_lost_is_sent_again_once_and_at_once() {
    let mut t = transfer(&[Wish::WindowSize(4)], 512 * 20);
    t.start(Duration::ZERO);
    assert_eq!(t.ack(0, 10 * MS), blocks(1, 4));
    assert_eq!(t.ack(0, 11 * MS), Step::Wait, "the network's copy");
    assert_eq!(t.ack(0, 20 * MS), blocks(1, 4));
    assert_eq!(t.ack(0, 30 * MS), Step::Wait);
    assert_eq!(t.ack(4, 40 * MS), blocks(5, 4));
}

#[test]
fn block_numbers_go_on_at_0() {
    let length = 8 * 70_000;
    let mut t = transfer(&[Wish::BlockSize(8), Wish::WindowSize(12)], length);
    t.start(MS);
    let mut step = t.ack(0, MS);
    let mut next = 1;
    while let Step::SendBlocks(Blocks { first, count }) = step {
        assert_eq!(first, next);
        next += count;
        step = t.ack((next - 1) as u16, MS);
    }
    assert_eq!(step, Step::End(Ended::Complete));
    assert_eq!((next - 1, t.acknowledged()), (70_001, length));
}

#[test]
fn silence_is_answered_a_few_times_and_then_taken_for_an_end() {
    let mut t = transfer(&[Wish::BlockSize(1024)], 5000);
    t.start(Duration::ZERO);
    let mut sent = 0;
    loop {
        let before = t.deadline() - MS;
        assert_eq!(t.time_out(before), Step::Wait);
        match t.time_out(t.deadline()) {
            Step::SendOptions => sent += 1,
            step => break assert_eq!(step, Step::End(Ended::TimedOut)),
        }
        assert!(sent < 100);
    }
    assert_eq!(sent, 8);
    assert!(t.deadline() < 60_000 * MS);
}

#[test]
fn an_error_after_the_size_was_told_is_how_firmware_asks_for_it() {
    let mut t = transfer(&[Wish::Size, Wish::BlockSize(1468)], 5000);
    t.start(MS);
    assert_eq!(t.error(aborted()), Step::End(Ended::SizeAsked));
    let mut t = transfer(&[Wish::BlockSize(1468)], 5000);
    t.start(MS);
    let ended = Ended::Aborted {
        code: 8,
        text: aborted().text,
    };
    assert_eq!(t.error(aborted()), Step::End(ended.clone()));
    let mut t = transfer(&[Wish::Size], 5000);
    t.start(MS);
    t.ack(0, MS);
    assert_eq!(t.error(aborted()), Step::End(ended));
}

#[test]
fn the_same_request_again_gets_the_same_answer_until_the_client_has_heard_it() {
    let mut t = transfer(&[Wish::Size], 5000);
    t.start(MS);
    assert_eq!(t.asked_again(MS), Step::SendOptions);
    t.ack(0, MS);
    assert_eq!(t.asked_again(MS), Step::End(Ended::Replaced));
    let mut t = transfer(&[], 5000);
    t.start(MS);
    assert_eq!(t.asked_again(MS), blocks(1, 1));
    t.ack(1, MS);
    assert_eq!(t.asked_again(MS), Step::End(Ended::Replaced));
}

#[test]
fn a_client_that_only_just_stays_alive_is_ended() {
    let length = 512 * 100_000;
    let mut t = transfer(&[], length);
    t.start(Duration::ZERO);
    let (mut now, mut block) = (Duration::ZERO, 1_u16);
    while let Step::SendBlocks(_) = t.ack(block, now) {
        now += 20_000 * MS;
        block = block.wrapping_add(1);
        if let Step::End(ended) = t.time_out(now) {
            assert_eq!(ended, Ended::TimedOut);
            assert!(now < Duration::from_secs(8 * 3600));
            return;
        }
    }
    panic!("it was served to its end");
}

/// A network between two, and what it does to each packet that it is given.
#[derive(Debug)]
struct Channel {
    /// For each packet in turn: copies that arrive, and how late each.
    fates: Vec<Vec<u64>>,
    given: usize,
}

/// Something that arrives, soonest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at: std::cmp::Reverse<(Duration, usize)>,
    what: Wire,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wire {
    Oack,
    /// The number that is sent, the block it stands for, and whether it is the last.
    Data(u16, u64, bool),
    Ack(u16),
}

impl Channel {
    fn carry(&mut self, what: Wire, now: Duration, arrivals: &mut BinaryHeap<Arrival>) {
        let fate = &self.fates[self.given % self.fates.len()];
        // After so many packets the network mends.
        let mended = vec![1];
        let fate = if self.given < 2000 { fate } else { &mended };
        for delay in fate {
            self.given += 1;
            let at = now + Duration::from_millis(*delay);
            arrivals.push(Arrival {
                at: std::cmp::Reverse((at, self.given)),
                what: what.clone(),
            });
        }
        self.given += usize::from(fate.is_empty());
    }
}

/// A client of RFC 7440: takes blocks in order, and acknowledges whole windows, the last block, and what is out of order.
#[derive(Default)]
struct Client {
    has_begun: bool,
    received: u64,
    in_window: u64,
    is_done: bool,
    got: Vec<u64>,
}

impl Client {
    fn take(&mut self, packet: &Wire, window: u64) -> Option<Wire> {
        let ack = |block: u64| Some(Wire::Ack(block as u16));
        match *packet {
            Wire::Oack if self.received == 0 => {
                self.has_begun = true;
                ack(0)
            }
            Wire::Data(number, block, is_last) if number == (self.received + 1) as u16 => {
                self.received += 1;
                self.in_window += 1;
                self.got.push(block);
                self.is_done |= is_last;
                if self.is_done || self.in_window == window {
                    self.in_window = 0;
                    return ack(self.received);
                }
                None
            }
            Wire::Data(..) if self.has_begun || self.received > 0 => {
                self.in_window = 0;
                ack(self.received)
            }
            _ => None,
        }
    }
}

/// What a whole transfer over such a network came to.
struct Story {
    got: Vec<u64>,
    ended: Ended,
    is_done: bool,
    /// DATA packets that were sent, and how often there was a reason to.
    data_sent: u64,
    reasons: u64,
}

fn tell(wishes: &[Wish], length: u64, mut channel: Channel) -> Story {
    let terms = terms(wishes, length);
    let mut server = Transfer::new(&terms, length, Duration::ZERO);
    let mut client = Client::default();
    let mut arrivals = BinaryHeap::new();
    let mut now = Duration::ZERO;
    let (mut data_sent, mut reasons) = (0, 0);
    let mut step = server.start(now);
    for _ in 0..200_000 {
        match &step {
            Step::Wait => {}
            Step::SendOptions => channel.carry(Wire::Oack, now, &mut arrivals),
            Step::SendBlocks(Blocks { first, count }) => {
                assert!(*count <= u64::from(terms.window) && *count > 0);
                reasons += 1;
                for block in *first..first + count {
                    data_sent += 1;
                    let data = Wire::Data(block as u16, block, block == server.last);
                    channel.carry(data, now, &mut arrivals);
                }
            }
            Step::End(ended) => {
                return Story {
                    got: client.got,
                    ended: ended.clone(),
                    is_done: client.is_done,
                    data_sent,
                    reasons,
                };
            }
        }
        let next = arrivals.peek().map(|arrival| arrival.at.0.0);
        if next.is_none_or(|at| at > server.deadline()) {
            now = server.deadline();
            step = server.time_out(now);
            continue;
        }
        let Some(Arrival { at, what }) = arrivals.pop() else {
            continue;
        };
        now = at.0.0;
        step = match what {
            Wire::Ack(block) => {
                let before = server.acked;
                let was_opening = server.is_opening;
                let step = server.ack(block, now);
                let is_new = server.acked > before || was_opening;
                if terms.window == 1 && !is_new {
                    assert_eq!(step, Step::Wait, "DATA in reply to a second ACK");
                }
                step
            }
            packet => {
                if let Some(answer) = client.take(&packet, u64::from(terms.window)) {
                    channel.carry(answer, now, &mut arrivals);
                }
                Step::Wait
            }
        };
    }
    panic!("it never ends");
}

fn a_bad_network() -> impl Strategy<Value = Channel> {
    // None: lost. Two: doubled. Unequal delays: out of order.
    let fate = prop_oneof![
        6 => (1..4_u64).prop_map(|delay| vec![delay]),
        1 => Just(vec![]),
        1 => (1..400_u64).prop_map(|delay| vec![delay]),
        1 => (1..5_u64, 1..50_u64).prop_map(|(first, second)| vec![first, second]),
    ];
    proptest::collection::vec(fate, 1..300).prop_map(|fates| Channel { fates, given: 0 })
}

proptest! {
    #[test]
    fn a_file_arrives_whole_and_in_order_over_any_network(
        channel in a_bad_network(),
        window in 0..20_u16,
        length in 0..60_000_u64,
    ) {
        let mut wishes = vec![Wish::BlockSize(64), Wish::WindowSize(window)];
        if window == 0 {
            wishes.clear(); // no options: the first answer is DATA
        }
        let story = tell(&wishes, length, channel);
        let block_size = if window == 0 { 512 } else { 64 };
        match story.ended {
            Ended::Complete => prop_assert!(story.is_done),
            // All of nine packets in a row may have been lost.
            ended => prop_assert_eq!(ended, Ended::TimedOut),
        }
        let whole: Vec<u64> = (1..=story.got.len() as u64).collect();
        prop_assert_eq!(&story.got, &whole, "in order, none twice");
        if story.is_done {
            prop_assert_eq!(story.got.len() as u64, length / block_size + 1);
        }
        // What is sent is bounded by reasons to, each of one window.
        prop_assert!(story.data_sent <= story.reasons * u64::from(window.max(1)));
    }

    #[test]
    fn a_network_that_doubles_every_packet_has_no_block_sent_twice_in_lock_step(length in 0..60_000_u64) {
        let channel = Channel { fates: vec![vec![1, 2]], given: 0 };
        let story = tell(&[Wish::BlockSize(512)], length, channel);
        prop_assert_eq!(story.ended, Ended::Complete);
        prop_assert_eq!(story.data_sent, length / 512 + 1);
    }

    #[test]
    fn nothing_a_client_sends_has_more_than_a_window_sent(
        window in 1..=65535_u16,
        length in any::<u32>(),
        acks in proptest::collection::vec(any::<u16>(), 0..200),
    ) {
        let mut server = transfer(&[Wish::BlockSize(8), Wish::WindowSize(window)], length.into());
        let mut step = server.start(Duration::ZERO);
        for (at, block) in acks.into_iter().enumerate() {
            if let Step::SendBlocks(Blocks { first, count }) = step {
                prop_assert!(count <= 64 && first + count - 1 <= u64::from(length) / 8 + 1);
            }
            let near = (server.sent as u16).wrapping_sub(block % 100);
            step = server.ack(near, MS * at as u32);
            if matches!(step, Step::End(_)) {
                break;
            }
        }
    }
}
