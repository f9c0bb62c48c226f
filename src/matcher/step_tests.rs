use super::*;
use crate::fixtures::{gate, knock, packet, policy};
use crate::policy::KnockAction;

fn steps(style: LogStyle, arrivals: &[(&str, u64)]) -> Vec<Vec<Step>> {
    let knocks = vec![
        knock("a", "7 8 9", KnockAction::Close),
        knock("b", "5", KnockAction::Close),
    ];
    let mut policy = policy(Vec::new(), knocks);
    policy.log.style = style;
    policy.scan_guard.ports = 100;
    let mut matcher = Matcher::new(&policy);
    let arrivals = arrivals.iter().zip(1..);
    arrivals
        .map(|((port, secs), number)| {
            let packet = packet("198.51.100.7", port, number);
            matcher.handle(&packet, true, Time::from_secs(*secs)).steps
        })
        .collect()
}

#[test]
fn the_classic_style_is_told_of_every_step_and_no_other_is() {
    let arrivals = [
        ("7", 1),
        ("7", 2),
        ("8", 3),
        ("8", 4),
        ("9", 5),
        ("5", 6),
        ("7", 7),
        ("8", 8),
        ("9", 60),
        ("7", 61),
        ("9", 62),
    ];
    let (a, b) = (SequenceId(0), SequenceId(1));
    let expected = [
        vec![Step::Stage(a, 1)],
        vec![Step::Stage(a, 1)],
        vec![Step::Stage(a, 2)],
        vec![],
        vec![Step::Stage(a, 3)],
        vec![Step::Stage(b, 1)],
        vec![Step::Stage(a, 1)],
        vec![Step::Stage(a, 2)],
        vec![Step::TooLate(a, 2)],
        vec![Step::Stage(a, 1)],
        vec![],
    ];
    assert_eq!(steps(LogStyle::Classic, &arrivals), expected);
    let silent = steps(LogStyle::Plain, &arrivals);
    assert!(silent.iter().all(Vec::is_empty));
}

#[test]
fn whoever_is_one_packet_short_is_told_but_for_decoys() {
    let knocks = vec![
        knock("a", "7 8 9", KnockAction::Accept),
        knock("b", "5 6", KnockAction::Drop),
        knock("c", "4", KnockAction::Accept),
        knock("d", "3 2", KnockAction::Trust),
    ];
    let mut policy = policy(vec![gate("ssh")], knocks);
    policy.scan_guard.nearby = 0;
    let mut matcher = Matcher::new(&policy);
    let arrivals = [
        ("7", false),
        ("8", true),
        // Again, and then what voids it.
        ("8", false),
        ("5", false),
        ("9", false),
        ("4", false),
        ("3", true),
        ("2", false),
    ];
    for ((port, nearly), number) in arrivals.into_iter().zip(1..) {
        let packet = packet("198.51.100.7", port, number);
        let heard = matcher.handle(&packet, true, Time::from_secs(number.into()));
        assert_eq!(heard.nearly, nearly, "{port}");
    }
}
