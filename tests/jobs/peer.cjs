// A peer in Node: adds jobs to a BullMQ queue and waits for their results, or works on one.
// node peer.cjs produce|work HOST PORT QUEUE NODE_MODULES
const [mode, host, port, name, modules] = process.argv.slice(2);
const { Queue, QueueEvents, Worker } = require(`${modules}/bullmq`);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };

async function produce() {
  const queue = new Queue(name, { connection });
  const events = new QueueEvents(name, { connection });
  await events.waitUntilReady();
  const options = [
    {},
    { priority: 3 },
    { delay: 300 },
    { attempts: 3, backoff: { type: "exponential", delay: 20 } },
    { jobId: "from-node" },
  ];
  const jobs = [];
  for (const [n, each] of options.entries()) {
    jobs.push(await queue.add("from-node", { n, fails: each.attempts ? 2 : 0 }, each));
  }
  const results = await Promise.all(jobs.map((job) => job.waitUntilFinished(events, 60000)));
  const hopeless = await queue.add("unheard-of", {});
  const error = await hopeless.waitUntilFinished(events, 60000).catch((error) => error.message);
  console.log(JSON.stringify({ results, error }));
  await events.close();
  await queue.close();
}

async function work() {
  const worker = new Worker(
    name,
    async (job) => {
      if (job.data.fails) throw new Error("Node says no");
      await job.updateProgress({ half: true });
      return { twice: 2 * job.data.n, priority: job.opts.priority ?? 0 };
    },
    { connection, concurrency: 5 },
  );
  await worker.waitUntilReady();
  console.log("working");
  process.once("SIGTERM", () => worker.close());
}

(mode === "produce" ? produce() : work()).catch((error) => {
  console.error(error);
  process.exit(1);
});
