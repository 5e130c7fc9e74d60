use super::*;

/// Removes what comes behind the first file.
struct Remover<'p>(&'p Path);

impl FileSink for Remover<'_> {
    fn file(
        &mut self,
        path: &[u8],
        _: &Metadata,
        _: u64,
        _: Option<Vec<DataRange>>,
        _: Timestamp,
    ) -> Result<Location, StoreError> {
        assert_eq!(path, b"a");
        std::fs::remove_file(self.0.join("b")).unwrap();
        std::fs::remove_dir(self.0.join("d")).unwrap();
        Ok(Location::Directory)
    }
}

#[test]
fn what_vanishes_while_a_directory_is_read_is_left_out_if_asked_for() {
    for ignore_vanished in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::write(folder.path().join(name), "content").unwrap();
        }
        std::fs::write(folder.path().join("c"), "").unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        let root = open(folder.path()).unwrap();
        let rules = Rules::default();
        let mut tree = Tree::new(root_metadata(root.as_fd(), &rules).unwrap()).unwrap();
        let options = ScanOptions {
            rules: &rules,
            find_holes: false,
            one_file_system: false,
            ignore_vanished,
            left_out: &[],
        };
        let result = scan(
            root.as_fd(),
            options,
            &mut tree,
            &mut Remover(folder.path()),
        );
        if !ignore_vanished {
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with("b: read the metadata"), "{error}");
            continue;
        }
        assert_eq!(result.unwrap(), [b"b", b"d"]);
        assert!(tree.lookup(b"b").is_none() && tree.lookup(b"d").is_none());
        assert!(tree.lookup(b"a").is_some() && tree.lookup(b"c").is_some());
    }
}
