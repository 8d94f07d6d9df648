// One test at a time: some of them kill the server that the others use.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
