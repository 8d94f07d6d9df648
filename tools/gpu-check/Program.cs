using KvCacheGpu.GpuCheck;

return CheckProgram.Run(args, Console.Out, Console.Error);
