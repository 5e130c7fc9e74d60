//! The man pages in `docs/man`, made from the same definitions as `--help`.
//!
//! `UPDATE_MAN=1 cargo test -p erofs manual` writes them anew; without it the test says which ones are stale.

use crate::Arguments;
use clap::CommandFactory;
use std::collections::BTreeMap;
use std::path::Path;

fn pages() -> BTreeMap<String, Vec<u8>> {
    let mut command = Arguments::command();
    command.build();
    let mut pages = BTreeMap::new();
    let mut render = |command: &clap::Command, name: String| {
        let mut page = Vec::new();
        // clap takes names that live as long as the program, which this test is.
        let leaked: &'static str = name.clone().leak();
        clap_mangen::Man::new(command.clone().name(leaked))
            .date("")
            .render(&mut page)
            .unwrap();
        pages.insert(format!("{name}.1"), page);
    };
    render(&command, "erofs".to_owned());
    for subcommand in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
    {
        let name = format!("erofs-{}", subcommand.get_name());
        for question in subcommand
            .get_subcommands()
            .filter(|sub| sub.get_name() != "help")
        {
            render(question, format!("{name}-{}", question.get_name()));
        }
        render(subcommand, name);
    }
    for mut command in crate::links::commands() {
        command.build();
        let name = command.get_name().to_owned();
        render(&command, name);
    }
    pages
}

#[test]
fn manual_pages_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/man");
    let update = std::env::var_os("UPDATE_MAN").is_some();
    let mut stale = Vec::new();
    for (name, page) in pages() {
        let path = folder.join(&name);
        if update {
            std::fs::write(path, page).unwrap();
        } else if std::fs::read(path).ok() != Some(page) {
            stale.push(name);
        }
    }
    assert!(
        stale.is_empty(),
        "UPDATE_MAN=1 cargo test -p erofs manual: {stale:?}"
    );
}
