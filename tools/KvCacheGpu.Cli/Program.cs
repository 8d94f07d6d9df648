using System.Text;
using KvCacheGpu.Cli;

Console.OutputEncoding = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
return CommandLine.Invoke(args, Console.Out, Console.Error);
