// Puts a tap beside the destination of every audio context that the page makes.
{
  const module = URL.createObjectURL(new Blob([TAP_SOURCE], { type: "text/javascript" }));
  const blocks = [];
  const taps = new WeakMap();
  const connect = AudioNode.prototype.connect;

  function tapOf(context) {
    if (!taps.has(context)) {
      const input = new GainNode(context);
      taps.set(context, input);
      context.audioWorklet.addModule(module).then(() => {
        const tap = new AudioWorkletNode(context, "tap", { channelCount: 2, channelCountMode: "explicit" });
        tap.port.onmessage = ({ data }) => blocks.push(data);
        connect.call(input, tap);
        connect.call(tap, context.destination);
      });
    }
    return taps.get(context);
  }

  AudioNode.prototype.connect = function (target, ...rest) {
    if (target instanceof AudioDestinationNode && this.context instanceof AudioContext) connect.call(this, tapOf(this.context));
    return connect.call(this, target, ...rest);
  };

  // The next seconds of sound as base64 of float32, left and right after one another in blocks of 128.
  window.heard = async (seconds, sampleRate) => {
    blocks.length = 0;
    const count = Math.ceil((seconds * sampleRate) / 128);
    for (let waited = 0; blocks.length < count && waited < 1500; waited++) await new Promise((resolve) => setTimeout(resolve, 20));
    const bytes = new Uint8Array(await new Blob(blocks.slice(0, count).flat()).arrayBuffer());
    let text = "";
    for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
    return btoa(text);
  };
}
