//! Named bugs that a test run switches on in production code, to prove that the tests can fail.
//!
//! Without the feature `enabled`, [`Bug::planted`] is the constant `false`. With it, the environment variable `IEUM_PLANTED`
//! names the one bug of the run. `make planted` goes through the list and shows for each which test catches it.

/// A bug that can be planted, with the tests that must catch it (see `planted.txt` beside this crate).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The `sqlite` log commits without fsync.
    SynchronousOff,
    /// The `sqlite` log says that batches are durable before it commits them.
    AckBeforeAppend,
    /// The `sqlite` log counts its next ordinal from the rows that are left, so trimming makes it reuse some.
    OrdinalReusedAfterTrim,
    /// A tail that resumes starts one batch too late.
    TailResumesOneLate,
    /// The `etcd` log takes what a watch shows for what follows, whatever was left out.
    EtcdGapIgnored,
    /// The `etcd` log does not ask whether a batch is there before it puts it.
    EtcdRetryAppliedTwice,
    /// The `etcd` log takes a batch again that was trimmed.
    EtcdTrimmedRetryTaken,
    /// The `etcd` log takes batches of nodes that are not registered.
    EtcdFenceUnchecked,
    /// A tail of the `etcd` log that resumes starts one batch too late.
    EtcdResumesOneLate,
    /// The `etcd` log compacts up to the deletion of what it trims, beyond what others still read.
    EtcdCompactsTooFar,
    /// The `etcd` log writes to an etcd that is of another cluster than most of the endpoints.
    StrayEtcdWritten,
    /// An etcd that cannot be asked counts as one with nothing in it.
    UnreachableIsEmpty,
    /// The `etcd` log uses an etcd whatever cell it is of.
    EtcdCellUnchecked,
    /// The `etcd` log does not notice that its end is gone.
    EtcdEndUnchecked,
    /// A reader of the `etcd` log goes on although the log has another batch where it stands.
    EtcdHistoryUnchecked,
    /// A new generation of the `etcd` log begins whatever another operator has begun meanwhile.
    TwoReseedsTwoLogs,
    /// Apply takes a device's command whatever its number.
    SkipDeviceNumberCheck,
    /// Apply forgets idempotency keys.
    IdempotencyKeyIgnored,
    /// Decoding a list makes room for as many items as its length says.
    DecodeTrustsLength,
    /// Apply iterates a hash map.
    HashMapIteration,
    /// Apply reads the machine's clock.
    ClockRead,
    /// A node that was removed and is added again starts over, so that its old batches count once more.
    NodeReaddedReplays,
    /// A node that is alone believes a clock that jumped.
    ClockJumpTaken,
    /// Cell time is the highest of the data centers' clocks.
    MedianIsMax,
    /// Two people who open a direct room at once get two rooms.
    DirectRoomTwice,
    /// The commands that name people by id are taken at every level.
    OldOpenStays,
    /// Apply goes on at a level that its build does not know.
    UnknownLevelTaken,
    /// A level becomes active before every member knows it.
    LevelRaisedAhead,
    /// Others may bring a person into as many rooms as one may be in.
    OthersFillRooms,
    /// A removed member goes on receiving the room's messages.
    RemovedMemberReceives,
    /// A command that panicked keeps what it wrote before.
    PanicKeepsWrites,
    /// A row that apply has read is kept as it was, whatever is written to it.
    KeptRowStale,
    /// The view's position is committed apart from the rows.
    PositionCommittedApart,
    /// Catch-up starts one position after the cursor.
    CatchUpOneLate,
    /// A page of a catch-up holds all there is.
    CatchUpPageUnbounded,
    /// Who has seen what is lost since keeps what it holds of that, if its cursor is older.
    LostSeenStays,
    /// A round of a catch-up counts as having told all that its last look shows.
    RoundEndsAtLastLook,
    /// A room is told to somebody who is not in it.
    ForeignRoomLeaks,
    /// Whether two people share a room is looked up for each room of the one who asks.
    StrangerCostsAllRooms,
    /// Sessions without a command under way are not told that the cell makes no progress.
    StallNotTold,
    /// Reads over HTTP, hellos and passwords run on as many threads as there are.
    ReadsTakeAllThreads,
    /// One account's reads over HTTP take no turns.
    OneAccountTakesAllReads,
    /// The later parts of a catch-up are nobody's, so that one account's devices may wait for as many as there are.
    CatchUpsAskAsNobody,
    /// What was asked for by somebody who has gone meanwhile is read all the same.
    AbandonedReadsRun,
    /// The limit of a device's commands begins anew with each session.
    RatePerSession,
    /// Imports wait for the log like everything else, as many as come.
    ImportsUnbounded,
    /// Every command costs its device one token, whatever it makes the cell do.
    EveryCommandCostsOne,
    /// What is applied and not delivered is no stall.
    DeliveryHangUnseen,
    /// A full session queue drops the event and goes on.
    SkipEventWhenFull,
    /// Logging a device out leaves its live session open.
    LoggedOutSessionStays,
    /// A session of a device that was logged out stays for as long as what waits for it may take.
    LoggedOutLingers,
    /// A session registers for the live stream only when its catch-up is sent.
    SessionEntersLate,
    /// A session counts only when it gets what is delivered.
    CatchUpUncounted,
    /// Of two sessions of a device the one that is brought in last has the place, whenever its hello came.
    OldSessionReplacesNew,
    /// A session that is sent elsewhere does not wait for what is under way.
    DrainCutsAnswers,
    /// A client that has seen more than this node has is served all the same.
    StaleAfterMoving,
    /// A node that was frozen marks nothing that is read until it has noticed by itself that it is behind.
    ThawedLooksFresh,
    /// How old the proof is that a node keeps up is taken when the proof comes, and not for each request.
    ProofNeverAges,
    /// A client is read as fast as it sends.
    FramesUnlimited,
    /// A session counts as a connection that has said no hello for as long as it lasts.
    SessionsCountAsStrangers,
    /// A refused command costs its client no more than any frame.
    RefusalsFree,
    /// A node's next life has the incarnation of the one before.
    IncarnationReused,
    /// The journal is trimmed up to the newer snapshot.
    TrimPastOlderSnapshot,
    /// A view that stands where the log no longer reaches is gone on from.
    ViewBehindTrimTrusted,
    /// The shared log is trimmed although one data center alone has its batches on disk.
    TrimWithOneDataCenter,
    /// What an app says late of a copy that it has forgotten since becomes the cursor.
    VoidCopyCounts,
    /// A member may be taken out whatever only it has beside one data center of what the shared log has forgotten.
    NeededTakenOut,
    /// What a node that has halted has on its disk counts for its data center when the shared log is trimmed.
    HaltedVouches,
    /// What a node that comes up has on its disk counts before it was compared with the log.
    UncomparedVouches,
    /// Nodes that were started while the log takes nothing are never compared.
    BeginningNotCompared,
    /// Of two that differ where they began, the older build stays, whatever a third one has that comes later.
    BeginningDecides,
    /// The same where the log happened to end at a checkpoint.
    CheckpointBegunAtDecides,
    /// A node that is given no snapshot yet takes that for a refusal that lasts, and applies everything.
    RefusalsLast,
    /// A node whose view differs from the others' goes on.
    MinorityStays,
    /// Which view is the wrong one is decided before all have voted who are there.
    FirstVoteDecides,
    /// A node is believed whatever node its certificate names.
    CertificateOfAnyNode,
    /// Other nodes are let in from everywhere without certificates.
    ListensUnguarded,
    /// A node goes on although the cell counts none of its batches.
    RemovedNodeStays,
    /// An address of a node that was heard of is asked for ever.
    AddressesKeptForEver,
    /// A member holds the shared log back however far behind it is.
    SlowMemberHoldsLog,
    /// The shared log keeps what is new, however much that is.
    KeptUnbounded,
    /// What says where a node stands waits for trimming.
    TrimsInTheLoop,
    /// Only the ready node with the lowest number trims the shared log.
    NobodyTakesOver,
    /// A node takes commands until the log is full.
    BrakeIgnored,
    /// A batch that a view has applied already is applied again.
    RepeatApplied,
    /// A view takes a batch that does not follow the one before.
    ApplyGapIgnored,
    /// A node that agreed to skip a command starts before all others have agreed.
    HeldNodeStarts,
    /// A command is marked to be skipped although not every node has agreed.
    SkipAsksNobody,
    /// A node does not keep the marks of commands to skip in its journal.
    JournalForgetsMarks,
    /// Who only asks for the marks has the journal keep them, as if the node had skipped the commands.
    SkipsReadMarksJournal,
    /// What a node alone has agreed to is skipped as if it were marked, when its journal is replayed.
    AgreedSkipped,
    /// A node that has halted applies what is marked to be skipped.
    HaltedForgetMarks,
    /// A node whose view has passed a mark that it did not know starts all the same.
    PassedMarkIgnored,
    /// A journal goes on behind a gap.
    JournalGapIgnored,
    /// A node founds a cell although another is to.
    AnyNodeFounds,
    /// The name of the data folder is not made durable.
    DataFolderNotSynced,
    /// The names of the view's files are not made durable.
    ViewFoldersNotSynced,
    /// A journal is opened as the log of a node that is alone.
    JournalTakenForLog,
    /// A node trims the log behind a snapshot that another node reads.
    LeaseIgnored,
    /// A snapshot of another cell that a peer gives is taken.
    PeerSnapshotOfAnyCell,
    /// A node that went out because its view differs gives snapshots of it.
    DifferingGives,
    /// A node whose view may be the wrong one gives snapshots of it.
    UndecidedGives,
    /// A node that comes up waits for whoever lives and gives nothing.
    WaitsForEver,
    /// A copy for another node takes the room that is kept free.
    CopiesTakeReserve,
    /// A copy for another node is made to its end although the node stops.
    CopyOutlivesNode,
    /// A view that was copied counts as a vote beside the one that it was copied from.
    CopiesVote,
    /// Of views that as many have come to that stays which an older build runs with, also if all of those have copied it.
    BuildOfCopies,
    /// A copy that is started again counts as a vote until it says that it is one.
    CopyVotesAgain,
    /// What a node says while it comes up, and does not know yet, lifts what it has said of its copy.
    LateWordLifts,
    /// That a node has to go is found anew each time, by the votes that are left.
    DecisionForgotten,
    /// A node that was just started gives copies of its view before it has compared that with the others'.
    LendsUncompared,
    /// A node takes nothing over of what others have decided.
    DecisionsUnheard,
    /// What others have decided is taken over when they say it again, and not as soon as their view is found to be the same.
    DecisionsComeLate,
    /// A node that stops waits for the newcomers that read a snapshot.
    StopWaitsForNewcomers,
    /// A node that went out because its view differs starts again with it.
    DifferingStartsAgain,
    /// A node says that it is ready before it has applied what the log has.
    ReadyBeforeCaughtUp,
    /// A node goes on with a log that has another batch where its journal ends.
    JournalEndUnchecked,
    /// A node starts in a cell that does not know it.
    StrangerStarts,
    /// A node takes commands until the disk is full.
    ReserveIgnored,
    /// A snapshot that proves that the log lost its end is passed over like a damaged one.
    SnapshotAheadPassedOver,
    /// A restored cell goes on in the generation that it had.
    RestoreKeepsGeneration,
    /// Reading every row of a view holds the snapshot meanwhile.
    SnapshotHeld,
    /// A node does not ask its log which commands the operator marked to be skipped.
    SkipForgotten,
    /// What is remembered of the lives of nodes is carried into a new generation of the log.
    LivesCarriedOver,
    /// A node that crosses into a new generation takes batches of the old one with it that the cell has given up.
    CrossesBeyondTheEnd,
    /// The view of the node with the lowest number is the one that a new generation begins with, not the furthest.
    ReseedFromTheFirst,
    /// A halted node takes the batches of another one's journal although the two have other histories.
    LevelsAnyHistory,
    /// A halted node takes batches of another one's journal where nothing tells that they follow its own.
    LevelsWithoutComparing,
    /// A generation begins without what only a node without a view has in its journal.
    JournalAloneForgotten,
    /// A log begins anew although a node has only just halted, with which those behind it have not compared what they have.
    LateComersUncompared,
    /// A halted node becomes level with others although a generation is about to begin where it stands.
    MovesWhenHeld,
    /// A generation may begin where a node stands that has nothing yet, and knows of no members.
    EmptyViewCounts,
    /// Of two histories a new generation takes the longer one without the operator's word.
    LongerHistoryTaken,
    /// A node that had another history once is held to have it still, although it has begun anew with the others since.
    OldFindingCounts,
    /// A generation of the log is begun although the nodes may have moved on meanwhile.
    BeginsTooLate,
    /// Members that do not answer are given up without the operator's word.
    ReseedWithoutAsking,
    /// A node starts in a folder in which a restore was cut off.
    UnfinishedRestoreStarts,
    /// A restore that does not come to anything says that there was none, although one before it was cut off.
    CutOffRestoreForgotten,
    /// A journal that is brought up from another one does not keep the marks that were used.
    BroughtJournalForgetsMarks,
    /// A backup is brought up past a command that the journal's node has only agreed to have skipped.
    BroughtPastAgreed,
    /// A view that was brought up with a journal passes for a node's own.
    BroughtViewVotes,
    /// A backup is brought up with a journal of another history.
    JournalJoinUnchecked,
    /// A damaged batch within a journal counts as its end.
    DamageTakenForTheEnd,
    /// A backup is restored into an empty etcd whatever the other nodes hold beyond it.
    RestoreAsksNobody,
    /// A node goes on with the log of a generation that was given up.
    GivenUpLogTaken,
    /// A node judges the log by what it saw before it heard the others, who have appended since.
    LooksBeforeItHears,
    /// A node shuts its doors as soon as one other speaks of a later generation.
    OneReportShutsTheDoors,
    /// A node crosses into a generation whose log has lost what others have applied in it.
    CrossesIntoShortLog,
    /// A generation counts as begun although its log has lost what others have applied in it, into which no node crosses.
    ShortLogHasBegun,
    /// A node without data begins with a log that has lost what others have applied.
    ShortLogTaken,
    /// A restored cell takes the generation after the newest that the files tell of, which lost files may have had.
    GenerationFromFilesAlone,
    /// A restored cell gives the ids again that were given after the backup.
    RestoreReusesIds,
    /// A snapshot's checksums are not compared when it is loaded.
    SnapshotUnverified,
    /// The client forgets a command when it was sent, not when it was acknowledged.
    OutboxForgetsSent,
    /// The client says hello on a second connection before the first is closed.
    TwoHellos,
    /// A client whose own late hello ended its session stops.
    LateHelloStops,
    /// A client believes that one hello of its own came late, however many it has given up.
    OneLateHello,
    /// The client drops answers that its store did not take.
    FailedWritesDropped,
    /// The client tells the app to forget its copy although the store did not take that the cursor is void.
    ResyncBeforeStored,
    /// A client takes any position for its cursor and for what it has seen.
    AnyPositionTaken,
    /// An acknowledgement moves the client's cursor.
    AckMovesCursor,
    /// A second import of an overlapping export adds its messages again.
    ImportOverlapTwice,
    /// An import takes any line with only a day as a heading.
    ImportTypedDay,
    /// An import reads rows that never close again without bound.
    ImportReadsAgain,
    /// Whoever once wrote in a room goes on hearing who types there.
    RemovedHearTyping,
    /// Whoever says so types in any room.
    StrangersType,
    /// A person's other devices are told that the person types.
    TypistHearsTyping,
    /// A session tells that its person types as often as it says so.
    TypingUnlimited,
    /// Each of a person's devices may tell that they type as if it were the only one.
    TypingEachDevice,
    /// Who types is told also while the node has too much to do, or its view is old.
    TypingInSurge,
    /// Who types is told to those who are in the room in a view that is old.
    TypingFromOldView,
    /// Who types is told also on devices that nobody looks at.
    TypingToTheAway,
    /// Who types is told to those who were in the room when a slow look at the view began.
    LateLookTellsTyping,
    /// Nodes that are no members of the cell are told who types.
    SignalsForStrangers,
    /// Names are looked up on the threads that reads and passwords have.
    NamesTakeSharedThreads,
    /// A name is looked up as often at once as somebody asks.
    EachCallerLooksUp,
    /// Names are looked up on as many threads as there are names.
    LookUpsUnbounded,
    /// What addresses a name had is forgotten when it cannot be looked up.
    LastAddressesForgotten,
    /// What addresses a name had first is remembered, not what it had last.
    FirstAddressesKept,
    /// The check of a drill does not look at what each member got.
    MembersNotAsked,
    /// An operation that never ended is no outage.
    EndlessWaitForgotten,
}

impl Bug {
    /// Whether this bug is the one planted in this run.
    #[cfg(not(feature = "enabled"))]
    #[inline(always)]
    #[must_use]
    pub const fn planted(self) -> bool {
        false
    }

    /// Whether this bug is the one planted in this run.
    #[cfg(feature = "enabled")]
    #[must_use]
    pub fn planted(self) -> bool {
        static NAME: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        NAME.get_or_init(|| std::env::var("IEUM_PLANTED").ok()).as_deref() == Some(self.name().as_str())
    }

    /// The name as `IEUM_PLANTED` carries it, for example `AckBeforeAppend`.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}
