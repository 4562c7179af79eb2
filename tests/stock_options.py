"""The keys of option files that others train BasicSR's own models with, in short.

Each entry has what the option check reads: the model, the data sets, the networks and losses with their arguments, the
schedule and the metrics.
"""

ADAM = {"type": "Adam", "lr": 2e-4, "weight_decay": 0, "betas": [0.9, 0.99]}
L1 = {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}
CHARBONNIER = {"type": "CharbonnierLoss", "loss_weight": 1.0, "reduction": "sum"}
GAN = {"type": "GANLoss", "gan_type": "vanilla", "real_label_val": 1.0, "fake_label_val": 0.0, "loss_weight": 0.1}
PERCEPTUAL = {
    "type": "PerceptualLoss",
    "layer_weights": {"conv5_4": 1},
    "vgg_type": "vgg19",
    "use_input_norm": True,
    "range_norm": False,
    "perceptual_weight": 1.0,
    "style_weight": 0,
    "criterion": "l1",
}
STEPS = {"type": "MultiStepLR", "milestones": [200000], "gamma": 0.5}
COSINE = {
    "type": "CosineAnnealingRestartLR",
    "periods": [250000] * 4,
    "restart_weights": [1, 1, 1, 1],
    "eta_min": 1e-7,
}
PSNR = {"type": "calculate_psnr", "crop_border": 4, "test_y_channel": False}
RRDB = {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 64, "num_block": 23}
VGG_D = {"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 64}
UNET_D = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 64, "skip_connection": True}
SWINIR = {
    "type": "SwinIR",
    "upscale": 4,
    "in_chans": 3,
    "img_size": 48,
    "window_size": 8,
    "img_range": 1.0,
    "depths": [6],
    "embed_dim": 180,
    "num_heads": [6],
    "mlp_ratio": 2,
    "upsampler": "pixelshuffle",
    "resi_connection": "1conv",
}
EDVR = {
    "type": "EDVR",
    "num_in_ch": 3,
    "num_out_ch": 3,
    "num_feat": 64,
    "num_frame": 5,
    "deformable_groups": 8,
    "num_extract_block": 5,
    "num_reconstruct_block": 10,
    "center_frame_idx": None,
    "hr_in": False,
    "with_predeblur": False,
    "with_tsa": True,
}
STYLEGAN = {
    "type": "StyleGAN2Generator",
    "out_size": 256,
    "num_style_feat": 512,
    "num_mlp": 8,
    "channel_multiplier": 2,
    "resample_kernel": [1, 3, 3, 1],
    "lr_mlp": 0.01,
}
HIFACE = {"type": "HiFaceGAN", "num_in_ch": 3, "num_feat": 48, "use_vae": False, "is_train": True}


def options(model, dataset="PairedImageDataset", val="PairedImageDataset", metrics=None, train=None, **networks):
    """Options as BasicSR's parser returns them."""
    return {
        "name": "theirs",
        "model_type": model,
        "datasets": {"train": {"name": "a", "type": dataset}, "val": {"name": "b", "type": val}},
        **{key: dict(network) for key, network in networks.items()},
        "train": {
            "ema_decay": 0.999,
            "optim_g": ADAM,
            "scheduler": STEPS,
            "total_iter": 1000000,
            "warmup_iter": -1,
            **(train or {"pixel_opt": L1}),
        },
        "val": {"val_freq": 5000, "save_img": False, "metrics": metrics or {"psnr": PSNR}},
    }


REAL = {"pixel_opt": L1, "perceptual_opt": PERCEPTUAL, "gan_opt": GAN, "optim_d": ADAM, "net_d_iters": 1}

#: By the name of the file whose keys they are.
STOCK_OPTIONS = {
    "SRResNet": options(
        "SRModel",
        network_g={
            "type": "MSRResNet",
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 64,
            "num_block": 16,
            "upscale": 4,
        },
        train={"pixel_opt": L1, "scheduler": COSINE},
    ),
    "SRGAN": options(
        "SRGANModel", network_g={"type": "MSRResNet", "upscale": 4}, network_d=VGG_D, train={**REAL, "optim_d": ADAM}
    ),
    "EDSR": options(
        "SRModel",
        network_g={
            "type": "EDSR",
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 64,
            "num_block": 16,
            "upscale": 2,
            "res_scale": 1,
            "img_range": 255.0,
            "rgb_mean": [0.4488, 0.4371, 0.4040],
        },
    ),
    "RCAN": options(
        "SRModel",
        network_g={
            "type": "RCAN",
            "num_group": 10,
            "num_block": 20,
            "squeeze_factor": 16,
            "upscale": 4,
            "res_scale": 1,
        },
    ),
    "ESRGAN": options("ESRGANModel", network_g=RRDB, network_d={**VGG_D, "input_size": 128}, train=REAL),
    "ESRGAN_LDL": options("ESRGANModel", network_g=RRDB, network_d=VGG_D, train={**REAL, "ldl_opt": L1}),
    "RRDBNet_PSNR": options("SRModel", network_g=RRDB),
    "RealESRNet": options("RealESRNetModel", dataset="RealESRGANDataset", network_g=RRDB),
    "RealESRGAN": options("RealESRGANModel", dataset="RealESRGANDataset", network_g=RRDB, network_d=UNET_D, train=REAL),
    "RealESRGAN_LDL": options(
        "RealESRGANModel",
        dataset="RealESRGANDataset",
        network_g=RRDB,
        network_d=UNET_D,
        train={**REAL, "ldl_opt": L1},
        metrics={"niqe": {"type": "calculate_niqe", "crop_border": 4, "better": "lower"}},
    ),
    "RealESRGAN_finetune_on_pairs": options(
        "RealESRGANModel", dataset="RealESRGANPairedDataset", network_g=RRDB, network_d=UNET_D, train=REAL
    ),
    "RealESRGAN_general_small": options(
        "RealESRNetModel",
        dataset="RealESRGANDataset",
        network_g={
            "type": "SRVGGNetCompact",
            "num_in_ch": 3,
            "num_out_ch": 3,
            "num_feat": 64,
            "num_conv": 16,
            "upscale": 4,
            "act_type": "prelu",
        },
    ),
    "SwinIR": options("SwinIRModel", network_g=SWINIR),
    "RIDNet": options(
        "SRModel",
        network_g={"type": "RIDNet", "in_channels": 3, "mid_channels": 64, "out_channels": 3, "num_block": 4},
    ),
    "EDVR": options(
        "EDVRModel",
        dataset="REDSDataset",
        val="VideoTestDataset",
        network_g=EDVR,
        train={"pixel_opt": CHARBONNIER, "tsa_iter": 50000, "scheduler": COSINE},
    ),
    "DUF": options("VideoBaseModel", val="VideoTestDUFDataset", network_g={"type": "DUF", "scale": 4, "num_layer": 52}),
    "TOF": options(
        "VideoBaseModel",
        dataset="Vimeo90KDataset",
        val="VideoTestVimeo90KDataset",
        network_g={"type": "TOFlow", "adapt_official_weights": True},
    ),
    "BasicVSR": options(
        "VideoRecurrentModel",
        dataset="REDSRecurrentDataset",
        val="VideoRecurrentTestDataset",
        network_g={"type": "BasicVSR", "num_feat": 64, "num_block": 30, "spynet_path": None},
        train={"pixel_opt": CHARBONNIER, "fix_flow": 5000, "flow_lr_mul": 0.125, "scheduler": COSINE},
    ),
    "IconVSR": options(
        "VideoRecurrentModel",
        dataset="Vimeo90KRecurrentDataset",
        val="VideoRecurrentTestDataset",
        network_g={"type": "IconVSR", "num_feat": 64, "num_block": 30, "keyframe_stride": 5, "temporal_padding": 2},
    ),
    "BasicVSR++": options(
        "VideoRecurrentModel",
        dataset="REDSRecurrentDataset",
        val="VideoRecurrentTestDataset",
        network_g={"type": "BasicVSRPlusPlus", "mid_channels": 64, "num_blocks": 7, "is_low_res_input": True},
    ),
    "StyleGAN2": options(
        "StyleGAN2Model",
        dataset="FFHQDataset",
        network_g=STYLEGAN,
        network_d={"type": "StyleGAN2Discriminator", "out_size": 256, "channel_multiplier": 2},
        train={"gan_opt": {"type": "GANLoss", "gan_type": "wgan_softplus"}, "r1_reg_weight": 10, "mixing_prob": 0.9},
    ),
    "HiFaceGAN": options(
        "HiFaceGANModel",
        dataset="SingleImageDataset",
        network_g=HIFACE,
        network_d={"type": "HiFaceGANDiscriminator", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 64},
        train={
            "pixel_opt": L1,
            "perceptual_opt": PERCEPTUAL,
            "gan_opt": {**GAN, "type": "MultiScaleGANLoss"},
        },
    ),
}
