// Records what the page sends to the loudspeakers, in the audio thread, where nothing is lost.
class Tap extends AudioWorkletProcessor {
  process([input]) {
    const [left, right] = input;
    if (left) this.port.postMessage({ time: currentTime, sound: [left.slice(), (right ?? left).slice()] });
    return true;
  }
}
registerProcessor("tap", Tap);
