//! Links in the documents lead somewhere. The manual pages in docs/man and the shells' completions in
//! docs/completions are those of the programs. They are kept in the repository, so that neither the
//! programs nor those who install them carry what makes them. After a change of the command line:
//! `make manuals`.
#![cfg(target_os = "linux")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// Which section of the manual, and what stands at its end.
struct Program {
    command: Command,
    section: &'static str,
    see_also: &'static str,
    exits: &'static [(&'static str, &'static str)],
    files: &'static [(&'static str, &'static str)],
}

/// The exit codes of what changes something or asks about it.
const EXITS: &[(&str, &str)] = &[
    ("0", "Done, or nothing to do."),
    ("1", "It failed."),
    ("2", "Wrong usage, or bad input."),
    ("3", "No daemon is running."),
    (
        "4",
        "Refused by a safety rule: somebody would be shut out, say.",
    ),
    ("5", "The state is degraded: see status."),
];

fn programs() -> [Program; 3] {
    [
        Program {
            command: portcullis::knockd::command(),
            section: "8",
            see_also: "knockctl(8), knock(1), nft(8), iptables(8)",
            // It asks nobody but itself.
            exits: &EXITS[..3],
            files: &[
                ("/etc/knockd/knockd.yaml", "The policy."),
                (
                    "/etc/knockd.conf",
                    "A classic policy, read where there is no other.",
                ),
                ("/etc/knockd/knockd.trusted", "The whitelist."),
                (
                    "/var/lib/knockd",
                    "What outlives the daemon, and a lock: one daemon to a state directory.",
                ),
                ("/run/knockd", "The control socket and the pid file."),
            ],
        },
        Program {
            command: portcullis::knockctl::command(),
            section: "8",
            see_also: "knockd(8), knock(1)",
            exits: EXITS,
            files: &[
                ("/run/knockd/control.sock", "The control socket."),
                (
                    "/etc/knockd/knockd.trusted",
                    "The whitelist, which trust and untrust edit.",
                ),
            ],
        },
        Program {
            command: portcullis::knock::command(),
            section: "1",
            see_also: "ssh(1), ssh_config(5), knockd(8)",
            // Among its notes.
            exits: &[],
            files: &[("~/.config/knock.yaml", "Profiles.")],
        },
    ]
}

type Part = fn(&Man, &mut dyn std::io::Write) -> std::io::Result<()>;

fn part(man: &Man, render: Part) -> String {
    let mut out = Vec::new();
    render(man, &mut out).expect("memory can be written");
    String::from_utf8(out).expect("roff is text")
}

/// Text in which a hyphen is one (`groff_man(7)`).
fn plain(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// Text as it is, line by line.
fn verbatim(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let control = if line.starts_with(['.', '\'']) {
            "\\&"
        } else {
            ""
        };
        [control, &plain(line), "\n"].concat()
    });
    format!(".nf\n{}.fi\n", lines.collect::<String>())
}

/// Sentences, a paragraph each, with one full stop at the end.
fn sentences(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let paragraph = paragraph.trim_end_matches('.');
        format!(".PP\n{}.\n", plain(paragraph))
    });
    paragraphs.collect()
}

/// The manual's arguments with dots behind those that may be repeated.
fn repeated(command: &Command, page: &str) -> String {
    let mut page = page.to_owned();
    for argument in command.get_positionals() {
        let most = argument
            .get_num_args()
            .map_or(1, |range| range.max_values());
        let names = argument.get_value_names().unwrap_or_default();
        let [name] = names else {
            continue;
        };
        if most > 1 {
            for (before, behind) in [('<', '>'), ('[', ']')] {
                let shown = format!("{before}\\fI{name}\\fR{behind}");
                page = page.replace(&shown, &format!("{shown}..."));
            }
        }
    }
    page
}

/// One page, verbs included.
fn page(program: &Program) -> String {
    let mut command = program.command.clone();
    command.build();
    let whole = man(program, command.clone());
    let page: String = [
        Man::render_title as Part,
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section,
    ]
    .map(|render| part(&whole, render))
    .concat();
    let mut page = vec![repeated(&command, &page)];
    let own = verbs(program, &command);
    if !own.is_empty() {
        page.push(".SH COMMANDS\n".to_owned());
    }
    page.push(own);
    if let Some(after) = command.get_after_long_help().or(command.get_after_help()) {
        let after = after.to_string();
        // Where the exit codes have a section they are not said twice.
        let kept = after
            .split("\n\n")
            .filter(|notes| program.exits.is_empty() || !notes.starts_with("Exit status: "));
        let kept: Vec<&str> = kept.collect();
        if !kept.is_empty() {
            page.push(format!(".SH NOTES\n{}", verbatim(&kept.join("\n\n"))));
        }
    }
    if !program.exits.is_empty() {
        page.push(".SH EXIT STATUS\n".to_owned());
    }
    for (code, what) in program.exits {
        page.push(format!(".TP\n.B {code}\n{what}\n"));
    }
    page.push(".SH FILES\n".to_owned());
    for (path, what) in program.files {
        page.push(format!(".TP\n.I {path}\n{what}\n"));
    }
    page.push(format!(".SH SEE ALSO\n{}\n", program.see_also));
    page.concat()
}

fn man(program: &Program, command: Command) -> Man {
    Man::new(command)
        .section(program.section)
        .date(" ")
        .manual("portcullis")
}

/// The verbs of a command, and theirs.
fn verbs(program: &Program, command: &Command) -> String {
    let verbs = command.get_subcommands();
    let verbs = verbs.filter(|verb| verb.get_name() != "help");
    let sections = verbs.map(|verb| {
        // What all take is said once.
        let own = verb.clone().mut_args(|arg| {
            let common = arg.is_global_set() || arg.get_id() == "help";
            arg.hide(common)
        });
        let about = own.get_long_about().or(own.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        let man = man(program, own);
        let synopsis = part(&man, Man::render_synopsis_section).replace(".SH SYNOPSIS\n", "");
        let options = part(&man, Man::render_options_section).replace(".SH OPTIONS\n", "");
        [
            format!(".SS {}\n", verb.get_bin_name().unwrap_or_default()),
            repeated(verb, &synopsis),
            sentences(&about),
            repeated(verb, &options),
            self::verbs(program, verb),
        ]
        .concat()
    });
    sections.collect()
}

#[test]
fn every_verb_has_its_place_in_the_manual_and_every_sentence_one_full_stop() {
    let pages = programs().map(|program| page(&program));
    for page in &pages {
        let twice = |line: &&str| line.ends_with("..") && !line.ends_with("...");
        assert_eq!(page.lines().find(twice), None);
        let codes = page.matches("0 done").count() + page.matches("\n.SH EXIT STATUS\n").count();
        assert!(codes < 2, "exit codes are said twice");
    }
    let [_, knockctl, _] = pages;
    for part in [
        ".SS knockctl sequences new\n",
        ".SS knockctl sequences secret\n",
        "\\fB\\-\\-length\\fR",
        "<\\fIIP\\fR>...",
        "<\\fIENTRY\\fR>...",
        "[\\fIKIND\\fR]...",
    ] {
        assert!(knockctl.contains(part), "{part}");
    }
}

/// Every file with what has to be in it.
fn files() -> Vec<(PathBuf, String)> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut files = Vec::new();
    for program in programs() {
        let name = program.command.get_name().to_owned();
        let file = docs.join(format!("man/{name}.{}", program.section));
        files.push((file, page(&program)));
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut program.command.clone(), &name, &mut out);
            let file = docs.join(format!("completions/{name}.{shell}"));
            files.push((file, String::from_utf8(out).expect("a script is text")));
        }
    }
    files
}

#[test]
fn the_manual_pages_and_completions_are_those_of_the_programs() {
    let write = std::env::var_os("MANUALS").is_some_and(|what| what == "write");
    for (path, wanted) in files() {
        if write {
            fs::create_dir_all(path.parent().expect("it has a directory")).unwrap();
            fs::write(&path, wanted).unwrap();
            continue;
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == wanted,
            "{} is out of date: `make manuals` writes it anew",
            path.display()
        );
    }
}

/// The documents that people read.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in [root.to_path_buf(), root.join("docs")] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// What headings can be linked to, as GitHub and GitLab make it.
fn anchors(text: &str) -> HashSet<String> {
    let mut fenced = false;
    let headings = text.lines().filter_map(|line| {
        fenced ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        (!fenced && title.len() < line.len()).then_some(title.trim())
    });
    let anchor = |title: &str| -> String {
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.flat_map(char::to_lowercase)
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut links = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        for rest in text.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let to = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let about = format!("{target} in {}", path.display());
            assert!(to.exists(), "{about}");
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&to).unwrap());
                assert!(there.contains(anchor), "{about}: there are {there:?}");
            }
        }
    }
    assert!(links > 20, "only {links}");
}
