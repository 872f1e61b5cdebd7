// Adds a tap to the destination of every audio context of the page.
{
  const module = URL.createObjectURL(new Blob([TAP_SOURCE], { type: "text/javascript" }));
  const taps = new Map();
  const connect = AudioNode.prototype.connect;

  function tapOf(context) {
    if (!taps.has(context)) {
      const input = new GainNode(context);
      const blocks = [];
      taps.set(context, { input, blocks });
      context.audioWorklet.addModule(module).then(() => {
        const tap = new AudioWorkletNode(context, "tap", { channelCount: 2, channelCountMode: "explicit" });
        tap.port.onmessage = ({ data }) => blocks.push({ ...data, arrived: performance.now() / 1000 });
        connect.call(input, tap);
        connect.call(tap, context.destination);
      });
    }
    return taps.get(context).input;
  }

  AudioNode.prototype.connect = function (target, ...rest) {
    if (target instanceof AudioDestinationNode && this.context instanceof AudioContext) connect.call(this, tapOf(this.context));
    return connect.call(this, target, ...rest);
  };

  const all = () => [...taps.values()].map(({ blocks }) => blocks);

  // Forgets the sound so far.
  window.listen = () => all().forEach((blocks) => (blocks.length = 0));

  // The sound since then: for each context its start in seconds of the page's clock, and the samples as base64 of float32,
  // left and right in alternating blocks of 128.
  window.heard = async () => {
    const found = all().filter((blocks) => blocks.length > 0);
    return Promise.all(found.map(async (blocks) => {
      // Some messages are late, none is early; a closed context sends no more.
      const begin = blocks[0].time + blocks.reduce((least, { time, arrived }) => Math.min(least, arrived - time), Infinity);
      const bytes = new Uint8Array(await new Blob(blocks.flatMap(({ sound }) => sound)).arrayBuffer());
      let text = "";
      for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
      return [begin, btoa(text)];
    }));
  };

  // Seconds heard since then, in the newest context.
  window.heardSeconds = (sampleRate) => ((all().at(-1)?.length ?? 0) * 128) / sampleRate;
}
