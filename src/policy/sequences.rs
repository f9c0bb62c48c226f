//! Sequences that are the same, or part of one another.

use std::collections::HashMap;

use crate::model::KnockPort;

use super::knocks::PlacedKnock;
use super::reader::Reader;

/// All sequences as one tree, in which those that begin alike share their way: from any port of a
/// sequence on, one step a port finds whatever is part of it, so that a thousand long sequences
/// are compared in as many steps as they have ports.
#[derive(Default)]
struct Tree {
    /// From a node, over a port, to the next. Node 0 is the root.
    steps: HashMap<(usize, KnockPort), usize>,
    /// By node: the first knock whose sequence ends there.
    ends: Vec<Option<usize>>,
}

impl Tree {
    /// Adds the sequence of that knock, unless there is one like it: whose that is.
    fn add(&mut self, sequence: &[KnockPort], knock: usize) -> Option<usize> {
        let mut node = 0;
        for port in sequence {
            let next = self.steps.len() + 1;
            node = *self.steps.entry((node, *port)).or_insert(next);
        }
        self.ends.resize(self.steps.len() + 1, None);
        let end = &mut self.ends[node];
        if end.is_none() {
            *end = Some(knock);
            return None;
        }
        *end
    }

    /// The knocks whose sequences these ports begin with, from the shortest to the longest, and
    /// how long each is.
    fn beginnings<'a>(&'a self, ports: &'a [KnockPort]) -> impl Iterator<Item = (usize, usize)> {
        let nodes = ports.iter().scan(0, |node, port| {
            *node = *self.steps.get(&(*node, *port))?;
            Some(*node)
        });
        let ends = nodes
            .zip(1..)
            .map(|(node, length)| (self.ends[node], length));
        ends.filter_map(|(knock, length)| Some((knock?, length)))
    }
}

/// Equal sequences and prefixes are errors, whatever their flags; other containment is a warning.
pub(super) fn check(reader: &mut Reader, knocks: &[&PlacedKnock]) {
    let mut tree = Tree::default();
    for (index, knock) in knocks.iter().enumerate() {
        if let Some(earlier) = tree.add(&knock.knock.sequence, index) {
            same(reader, knock, knocks[earlier]);
        }
    }
    // By knock: in which sequence it was last found.
    let mut found_in = vec![None; knocks.len()];
    for (index, knock) in knocks.iter().enumerate() {
        let sequence = knock.knock.sequence.as_slice();
        for start in 0..sequence.len() {
            for (part, length) in tree.beginnings(&sequence[start..]) {
                if length == sequence.len() {
                    continue;
                }
                if start == 0 {
                    begins_with(reader, knock, knocks[part]);
                } else if found_in[part].replace(index) != Some(index) {
                    contains(reader, knock, knocks[part]);
                }
            }
        }
    }
}

fn same(reader: &mut Reader, knock: &PlacedKnock, earlier: &PlacedKnock) {
    let found = format!(
        "the sequence of `{}` a second time (line {})",
        earlier.knock.name, earlier.sequence_at.line
    );
    reader.error(
        knock.sequence_at,
        found,
        "a sequence of its own for each knock",
    );
}

fn begins_with(reader: &mut Reader, knock: &PlacedKnock, part: &PlacedKnock) {
    let (name, line) = (&part.knock.name, part.sequence_at.line);
    let found = format!(
        "a sequence that begins with that of `{name}` (line {line}), which always fires first"
    );
    reader.error(
        knock.sequence_at,
        found,
        "no sequence to begin with another",
    );
}

fn contains(reader: &mut Reader, knock: &PlacedKnock, part: &PlacedKnock) {
    let (name, line) = (&part.knock.name, part.sequence_at.line);
    let found = format!("a sequence that contains that of `{name}` (line {line})");
    let help = format!("`{name}` fires on the way");
    reader.warn(
        knock.sequence_at,
        found,
        "sequences that do not contain another",
        help,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Proto;

    fn ports(numbers: &[u16]) -> Vec<KnockPort> {
        let port = |port: &u16| KnockPort {
            port: *port,
            proto: Proto::Tcp,
        };
        numbers.iter().map(port).collect()
    }

    #[test]
    fn the_tree_knows_all_sequences_that_ports_begin_with() {
        let mut tree = Tree::default();
        assert_eq!(tree.add(&ports(&[1, 2, 3]), 0), None);
        assert_eq!(tree.add(&ports(&[1]), 1), None);
        assert_eq!(tree.add(&ports(&[2, 3]), 2), None);
        assert_eq!(tree.add(&ports(&[1, 2, 3]), 3), Some(0));
        let found = |numbers: &[u16]| tree.beginnings(&ports(numbers)).collect::<Vec<_>>();
        assert_eq!(found(&[1, 2, 3, 4]), [(1, 1), (0, 3)]);
        assert_eq!(found(&[2, 3]), [(2, 2)]);
        assert_eq!(found(&[1, 2]), [(1, 1)]);
        assert_eq!(found(&[3, 1]), []);
        assert_eq!(found(&[]), []);
    }
}
