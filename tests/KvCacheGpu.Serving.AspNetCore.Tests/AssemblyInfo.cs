// Meters belong to the process: /metrics of one server counts what others do beside it.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
