use super::*;

fn contexts(text: &str) -> FileContexts {
    let mut contexts = FileContexts::default();
    contexts.take(Path::new("x"), text.as_bytes()).unwrap();
    contexts
}

fn says(contexts: &FileContexts, path: &str, file_type: FileType) -> String {
    let context = contexts.context(path.as_bytes(), file_type);
    String::from_utf8_lossy(context.unwrap_or(b"-")).into_owned()
}

#[test]
fn what_matches_last_counts_and_what_means_one_path_first() {
    let contexts = contexts(
        "# of all\n\n/etc/one\tone_t\n/.*\tall_t\n/etc(/.*)? etc_t\r\n /etc/.*\\.conf -- conf_t and more\n\
         /etc/dots\\.conf -d dots_t\n/(etc|usr)/lib/.* lib_t\n/etc/none/.* <<none>>\n/etc/o.* o_t\n/a.b dot_t\n/usr/bin|/x bin_t",
    );
    for (path, file_type, expected) in [
        ("", FileType::Directory, "all_t"),
        ("etc", FileType::Directory, "etc_t"),
        ("etc/one", FileType::Regular, "one_t"),
        ("./etc//one/", FileType::Regular, "one_t"),
        ("etc/other", FileType::Regular, "o_t"),
        ("etc/a/b.conf", FileType::Regular, "conf_t"),
        ("etc/a/b.conf", FileType::Symlink, "etc_t"),
        ("etc/dots.conf", FileType::Directory, "dots_t"),
        ("etc/dots.conf", FileType::Regular, "conf_t"),
        ("usr/lib/y", FileType::Socket, "lib_t"),
        ("etc/none/x.conf", FileType::Regular, "-"),
        ("a\nb", FileType::Fifo, "dot_t"),
        // Only the end of the last and the start of the first alternative are bound.
        ("usr/bin/anything", FileType::Regular, "bin_t"),
        // Found by its directory, which the other alternative is not in.
        ("x", FileType::Regular, "all_t"),
    ] {
        assert_eq!(says(&contexts, path, file_type), expected, "{path}");
    }
}

#[test]
fn paths_lie_below_the_mount_point_and_may_stand_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("contexts");
    let write = |suffix: &str, text: &str| {
        let name = format!("contexts{suffix}");
        std::fs::write(directory.path().join(name), text).unwrap();
    };
    write(
        "",
        "/vendor(/.*)? vendor_t\n/usr/lib/.* lib_t\n/same x_t\n/same -- y_t\n",
    );
    write(".homedirs", "/vendor/home/.* home_t\n/same -- home_t");
    write(".local", "/vendor/home/local.* local_t\n");
    write(
        ".subs",
        "/vendor/odm /vendor/first\n# none\n/vendor/odm /usr/lib64\nlone\n",
    );
    write(
        ".subs_dist",
        "/usr/lib64 /usr/lib\n/vendor/same /same\n/vendor/root /\n",
    );
    let contexts = FileContexts::read(&path, b"vendor/").unwrap();
    for (path, expected) in [
        ("", "vendor_t"),
        ("bin", "vendor_t"),
        ("odm/x", "lib_t"),
        ("odmx", "vendor_t"),
        ("home/x", "home_t"),
        ("home/local", "local_t"),
        ("same", "home_t"),
        ("root/usr/lib/x", "lib_t"),
    ] {
        assert_eq!(says(&contexts, path, FileType::Regular), expected, "{path}");
    }
    assert_eq!(says(&contexts, "same", FileType::Fifo), "x_t");
}

#[test]
fn lines_that_mean_nothing_are_told_by_their_place() {
    for (text, line, column, expected) in [
        ("/a x\n/b", 2, 3, "a context is missing"),
        (" /b \t", 1, 4, "a context is missing"),
        ("/b -x c", 1, 4, "\"-x\" is no type of file"),
        ("/b b c", 1, 4, "\"b\" is no type of file"),
        ("#\n\n /b( c", 3, 2, "unclosed group"),
        ("/(?=b) c", 1, 1, "look-around"),
        ("/b \u{e9} c", 1, 4, "byte 0xc3"),
        ("/b c\0", 1, 5, "byte 0x00"),
        ("/a{1000}{1000}{1000} c", 1, 1, "exceeds size limit"),
    ] {
        let mut contexts = FileContexts::default();
        let error = contexts.take(Path::new("x"), text.as_bytes()).unwrap_err();
        let error = error.to_string();
        let place = format!("x: line {line}, column {column}: ");
        assert!(
            error.starts_with(&place) && error.contains(expected),
            "{error}"
        );
    }
    let long = format!("/{}.* c", "a".repeat(5000));
    let mut contexts = FileContexts::default();
    let error = contexts.take(Path::new("x"), long.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("fewer than 4096"), "{error}");
}

#[test]
fn the_label_of_the_source_goes() {
    let xattr = |name: &str, value: &str| Xattr {
        name: name.as_bytes().into(),
        value: value.as_bytes().into(),
    };
    let contexts = contexts("/a new_t\n");
    for (path, expected) in [
        ("a", &["user.x", "security.selinux"][..]),
        ("b", &["user.x"]),
    ] {
        let mut xattrs = vec![xattr("security.selinux", "old_t"), xattr("user.x", "1")];
        contexts.apply(path.as_bytes(), FileType::Regular, &mut xattrs);
        let names: Vec<_> = xattrs
            .iter()
            .map(|x| String::from_utf8_lossy(&x.name))
            .collect();
        assert_eq!(names, expected);
    }
}
