//! Proofs from tiles, in two steps without any input or output: a [`Plan`] names the tiles it needs, the caller fetches
//! them however it likes, and the plan verifies them.
//!
//! Every tile is authenticated before any of its hashes is used: those on the right edge of the tree must add up to the
//! root, and each other tile must hash to its entry in its parent, which was authenticated before. So once a plan has
//! succeeded, all its tiles are true under its head, and the caller may keep them. A tile must not be kept otherwise.
//!
//! # Kept tiles stay sufficient
//! Let a caller keep the tiles of every plan that succeeded, and move its kept head from N to N' only after the
//! consistency plan from N to N'. Then every record ever proven, and every head ever kept, can be proven again under the
//! newest head from kept tiles alone, without asking anybody. The reason: the path of a record under N goes up through
//! full tiles, which are the same under N', to an edge tile of N; the consistency plan reads that tile as it is under N',
//! with all its parents up to the edge of N', and the edge of N' itself. A property test in `tests/` checks this.
//!
//! # When kept tiles and a new head disagree
//! [`ProofError::EdgeMismatch`] and [`ProofError::TileMismatch`] mean that some tile is not of this tree. If all tiles
//! came from an upstream, that upstream altered one. If some were kept ones, it may also be the *head* that is of another
//! tree, signed by a database that forked: then the plan must be run again with every tile fetched anew. That either
//! proves the fork ([`ProofError::Fork`]) or shows that upstream has no tiles that bear the head out.

use thiserror::Error;

use crate::hash::{HASH_BYTES, Hash};
use crate::head::TreeHead;
use crate::tile::{FULL_WIDTH, TILE_HEIGHT, Tile};
use crate::tree;

/// Why a proof could not be planned or did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProofError {
    /// The record cannot be in the tree: its id is not below the tree's size.
    #[error("record {id} is outside a tree of {size} records")]
    RecordOutsideTree {
        /// The record's id.
        id: u64,
        /// The tree's size.
        size: u64,
    },
    /// Of the two heads given, the one that should be newer is older.
    #[error("a tree of {new} records cannot continue one of {old}")]
    Shrunk {
        /// Size of the head that was called old.
        old: u64,
        /// Size of the head that was called new.
        new: u64,
    },
    /// Not one content per planned tile: a mistake of the caller.
    #[error("{given} tiles were given where {planned} were planned")]
    TileCount {
        /// How many tiles the plan has.
        planned: usize,
        /// How many contents came.
        given: usize,
    },
    /// A tile has not the exact size that its width asks for.
    #[error("{tile} has {bytes} bytes instead of {}", tile.byte_len())]
    Malformed {
        /// The tile.
        tile: Tile,
        /// How many bytes came.
        bytes: usize,
    },
    /// The tiles on the right edge do not add up to the root. At least one is not of this tree, unknown which.
    #[error("the tiles on the edge do not add up to the root of the tree of {size} records")]
    EdgeMismatch {
        /// The tree's size.
        size: u64,
    },
    /// A tile does not hash to its entry in its authentic parent.
    #[error("{tile} is not that of the tree of {size} records")]
    TileMismatch {
        /// The tile that was altered.
        tile: Tile,
        /// The tree's size.
        size: u64,
    },
    /// The tiles are authentic, but the record is not the one the log has under this id.
    #[error("the record is not number {id} of the log")]
    LeafMismatch {
        /// The record's id.
        id: u64,
    },
    /// The tiles are authentic, but the newer tree does not begin with the older one: the database signed two
    /// histories. This is proof of misbehaviour.
    #[error(
        "the log was forked: the tree of {} records begins with {computed} at {}, not with {} as was signed before",
        new.size, old.size, old.root
    )]
    Fork {
        /// The older head.
        old: TreeHead,
        /// The newer head.
        new: TreeHead,
        /// The root that the newer tree has at the older one's size.
        computed: Hash,
    },
}

/// The goal of a plan: that record `id` is in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inclusion {
    id: u64,
}

/// The goal of a plan: that the tree is a continuation of an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuation {
    old: TreeHead,
}

/// The goal of a plan: what root the tree had when it was smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    size: u64,
}

/// A proof to be made: which tiles it needs under which head, and what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<Goal> {
    head: TreeHead,
    /// First the edge tiles from the top down, then each further tile behind its parent.
    tiles: Vec<Tile>,
    /// Where in `tiles` the parents of the tiles behind the edge are.
    parents: Vec<usize>,
    goal: Goal,
}

impl Plan<Inclusion> {
    /// Plans to prove that the log with this head has a record under this id.
    ///
    /// # Errors
    /// [`ProofError::RecordOutsideTree`].
    pub fn record(head: &TreeHead, id: u64) -> Result<Plan<Inclusion>, ProofError> {
        if id >= head.size {
            return Err(ProofError::RecordOutsideTree {
                id,
                size: head.size,
            });
        }
        let mut plan = Plan::edge(head, Inclusion { id });
        plan.add(0, id >> TILE_HEIGHT);
        Ok(plan)
    }

    /// Authenticates the tiles, given in the order of [`tiles`](Plan::tiles), and checks that the record has this text,
    /// byte for byte.
    ///
    /// # Errors
    /// [`ProofError`]; nothing of `tiles` may be kept then.
    pub fn verify_record<Content: AsRef<[u8]>>(
        &self,
        tiles: &[Content],
        record_text: &str,
    ) -> Result<(), ProofError> {
        self.authenticate(tiles)?;
        let Inclusion { id } = self.goal;
        if self.hash_at(tiles, 0, id) == Some(Hash::leaf(record_text.as_bytes())) {
            Ok(())
        } else {
            Err(ProofError::LeafMismatch { id })
        }
    }
}

impl Plan<Continuation> {
    /// Plans to prove that the log with head `new` begins with that of `old`.
    ///
    /// # Errors
    /// [`ProofError::Shrunk`] if `new` is smaller; [`ProofError::Fork`] if both have one size and two roots, for which
    /// no tile is needed.
    pub fn consistency(old: &TreeHead, new: &TreeHead) -> Result<Plan<Continuation>, ProofError> {
        if new.size < old.size {
            return Err(ProofError::Shrunk {
                old: old.size,
                new: new.size,
            });
        }
        if new.size == old.size && new.root != old.root {
            return Err(ProofError::Fork {
                old: *old,
                new: *new,
                computed: new.root,
            });
        }
        Ok(Plan::between(old, new))
    }

    /// As [`consistency`](Plan::consistency), for heads of which `new` is known to be the larger.
    pub(crate) fn between(old: &TreeHead, new: &TreeHead) -> Plan<Continuation> {
        let mut plan = Plan::edge(new, Continuation { old: *old });
        for tile in tree::edge_tiles(old.size) {
            plan.add(tile.level(), tile.index());
        }
        plan
    }

    /// Authenticates the tiles, given in the order of [`tiles`](Plan::tiles), under the newer head, and checks that the
    /// older head's root comes out of them.
    ///
    /// # Errors
    /// [`ProofError`]; nothing of `tiles` may be kept then. [`ProofError::Fork`] is proof that the database lied.
    pub fn verify_consistency<Content: AsRef<[u8]>>(
        &self,
        tiles: &[Content],
    ) -> Result<(), ProofError> {
        self.authenticate(tiles)?;
        let Continuation { old } = self.goal;
        let computed = self.root_at(tiles, old.size);
        if computed == old.root {
            Ok(())
        } else {
            Err(ProofError::Fork {
                old,
                new: self.head,
                computed,
            })
        }
    }

    /// The head that is to be shown a beginning of [`head`](Plan::head).
    pub fn old(&self) -> &TreeHead {
        &self.goal.old
    }
}

impl Plan<Beginning> {
    /// Plans to compute the root that the log had at `size`. Whoever has the tiles can prove to anyone whose head is of
    /// that size that this head continues it, without knowing theirs.
    ///
    /// # Errors
    /// [`ProofError::Shrunk`] if the log is smaller.
    pub fn beginning(size: u64, head: &TreeHead) -> Result<Plan<Beginning>, ProofError> {
        if head.size < size {
            return Err(ProofError::Shrunk {
                old: size,
                new: head.size,
            });
        }
        let mut plan = Plan::edge(head, Beginning { size });
        for tile in tree::edge_tiles(size) {
            plan.add(tile.level(), tile.index());
        }
        Ok(plan)
    }

    /// Authenticates the tiles, given in the order of [`tiles`](Plan::tiles), and computes the root.
    ///
    /// # Errors
    /// [`ProofError`]; nothing of `tiles` may be kept then.
    pub fn root<Content: AsRef<[u8]>>(&self, tiles: &[Content]) -> Result<Hash, ProofError> {
        self.authenticate(tiles)?;
        Ok(self.root_at(tiles, self.goal.size))
    }
}

impl<Goal> Plan<Goal> {
    /// The head under which the tiles are authenticated.
    pub fn head(&self) -> &TreeHead {
        &self.head
    }

    /// All tiles the proof needs, each once. At most 8 on the edge of the tree and 8 for each path, all with the widths
    /// that they have in this tree; where upstream has a partial tile no more, ask for [`Tile::full`] and
    /// [cut](Tile::cut) it.
    pub fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// A plan that authenticates the right edge of the tree and nothing else.
    fn edge(head: &TreeHead, goal: Goal) -> Plan<Goal> {
        Plan {
            head: *head,
            tiles: tree::edge_tiles(head.size).collect(),
            parents: Vec::new(),
            goal,
        }
    }

    /// Adds the tile at this place, which the tree must have, and those of its parents that are not planned yet.
    fn add(&mut self, level: u8, index: u64) {
        // Up until a planned tile, at the latest one on the edge; then down again, so that parents come first.
        let place = |up: u8| (level + up, index >> (TILE_HEIGHT * u32::from(up)));
        let planned = (0..tree::LEVELS - level).find_map(|up| {
            let (level, index) = place(up);
            self.position(level, index).map(|position| (up, position))
        });
        let Some((up, mut parent)) = planned else {
            debug_assert!(
                false,
                "level {level}, tile {index} is not in a tree of {}",
                self.head.size
            );
            return;
        };
        for (level, index) in (0..up).rev().map(place) {
            // Below the edge every tile is full.
            let Ok(tile) = Tile::new(level, index, FULL_WIDTH) else {
                return;
            };
            self.tiles.push(tile);
            self.parents.push(parent);
            parent = self.tiles.len() - 1;
        }
    }

    fn position(&self, level: u8, index: u64) -> Option<usize> {
        self.tiles
            .iter()
            .position(|tile| tile.level() == level && tile.index() == index)
    }

    /// Shows that all tiles are of the tree with this plan's head.
    fn authenticate<Content: AsRef<[u8]>>(&self, contents: &[Content]) -> Result<(), ProofError> {
        let size = self.head.size;
        if contents.len() != self.tiles.len() {
            return Err(ProofError::TileCount {
                planned: self.tiles.len(),
                given: contents.len(),
            });
        }
        for (&tile, content) in self.tiles.iter().zip(contents) {
            let bytes = content.as_ref().len();
            if bytes != tile.byte_len() {
                return Err(ProofError::Malformed { tile, bytes });
            }
        }
        let edge_count = self.tiles.len() - self.parents.len();
        let (edge, below) = contents.split_at(edge_count);
        if tree::root_of_edge(edge.iter().map(AsRef::as_ref)) != self.head.root {
            return Err(ProofError::EdgeMismatch { size });
        }
        for ((&tile, content), &parent) in self.tiles[edge_count..]
            .iter()
            .zip(below)
            .zip(&self.parents)
        {
            let entry = usize::try_from(tile.index() % u64::from(FULL_WIDTH)).unwrap_or(usize::MAX);
            let expected = Tile::hash_at(contents[parent].as_ref(), entry);
            if expected != Some(tree::subtree_root(content.as_ref())) {
                return Err(ProofError::TileMismatch { tile, size });
            }
        }
        Ok(())
    }

    /// The root of the tree as it was at `size`, from tiles already authenticated.
    fn root_at<Content: AsRef<[u8]>>(&self, tiles: &[Content], size: u64) -> Hash {
        // The old tree's edge tiles are prefixes of the same tiles in the new one.
        let edge: Vec<&[u8]> = tree::edge_tiles(size)
            .filter_map(|narrow| {
                let position = self.position(narrow.level(), narrow.index())?;
                tiles.get(position)?.as_ref().get(..narrow.byte_len())
            })
            .collect();
        tree::root_of_edge(edge.into_iter())
    }

    /// Node number `node` of tile level `level`, from tiles already authenticated.
    fn hash_at<Content: AsRef<[u8]>>(
        &self,
        contents: &[Content],
        level: u8,
        node: u64,
    ) -> Option<Hash> {
        let position = self.position(level, node >> TILE_HEIGHT)?;
        let content = contents.get(position)?.as_ref();
        debug_assert_eq!(content.len() % HASH_BYTES, 0, "sizes are checked first");
        Tile::hash_at(content, usize::try_from(node % u64::from(FULL_WIDTH)).ok()?)
    }
}
